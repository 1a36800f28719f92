-- Keeps a publish until it is due.
-- KEYS delay, body, due, scheduled; ARGV milliseconds, member, event id, fields
local time = redis.call('TIME')
local at = time[1] * 1000 + math.ceil(time[2] / 1000) + tonumber(ARGV[1])
redis.call('HSET', KEYS[2], ARGV[2], cmsgpack.pack({unpack(ARGV, 4)}))
redis.call('ZADD', KEYS[1], at, ARGV[2])
redis.call('ZADD', KEYS[3], 'LT', at, KEYS[1])
redis.call('HSET', KEYS[4], ARGV[3], KEYS[1] .. '\n' .. ARGV[2])
return 'ok'
