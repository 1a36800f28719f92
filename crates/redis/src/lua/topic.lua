-- Makes a topic known; answers its record, and every group when it is new.
-- KEYS version, topics, groups, changes; ARGV topic, partitions
local known = redis.call('HGET', KEYS[2], ARGV[1])
if known then return {known, {}} end
local record = ARGV[2] .. ':' .. redis.call('INCR', KEYS[1])
redis.call('HSET', KEYS[2], ARGV[1], record)
redis.call('XADD', KEYS[4], 'MAXLEN', '~', 64, '*', 'topic', ARGV[1])
return {record, redis.call('HGETALL', KEYS[3])}
