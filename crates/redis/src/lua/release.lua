-- Gives a partition up; what its owner has read and not handled counts as never delivered.
-- KEYS lease, stream, retry, wake; ARGV token, group, consumer, idle time, how many of the stream,
-- their ids, ids of retry
if ARGV[1] ~= '' and redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'fenced' end
local own = tonumber(ARGV[5])
local function give(key, from, to)
  for at = from, to do
    redis.call('XCLAIM', key, ARGV[2], ARGV[3], 0, ARGV[at], 'IDLE', ARGV[4], 'RETRYCOUNT', 0, 'JUSTID')
  end
end
give(KEYS[2], 6, 5 + own)
give(KEYS[3], 6 + own, #ARGV)
if ARGV[1] ~= '' then redis.call('DEL', KEYS[1]) end
redis.call('XADD', KEYS[4], 'MAXLEN', '~', 16, '*', 'released', 1)
return 'ok'
