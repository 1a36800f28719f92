-- Takes back a publish that is not due.
-- KEYS scheduled; ARGV event id
local place = redis.call('HGET', KEYS[1], ARGV[1])
if not place then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
local bar = string.find(place, '\n', 1, true)
local delay, member = string.sub(place, 1, bar - 1), string.sub(place, bar + 1)
redis.call('HDEL', delay .. '..body', member)
return redis.call('ZREM', delay, member)
