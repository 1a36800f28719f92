-- Acknowledges, for the owner of the partition only.
-- KEYS lease, stream, retry, state; ARGV token, group, how many of the stream, how many of retry,
-- their ids, fields of the state to forget
if ARGV[1] ~= '' and redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'fenced' end
local own, retried = tonumber(ARGV[3]), tonumber(ARGV[4])
if own > 0 then redis.call('XACK', KEYS[2], ARGV[2], unpack(ARGV, 5, 4 + own)) end
if retried > 0 then
  redis.call('XACK', KEYS[3], ARGV[2], unpack(ARGV, 5 + own, 4 + own + retried))
  redis.call('XDEL', KEYS[3], unpack(ARGV, 5 + own, 4 + own + retried))
end
if #ARGV > 4 + own + retried then
  redis.call('HDEL', KEYS[4], unpack(ARGV, 5 + own + retried))
end
return 'ok'
