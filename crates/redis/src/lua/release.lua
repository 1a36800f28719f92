-- Gives a partition up; what its owner has read and not handled does not count as delivered to it.
-- KEYS lease, stream, retry, wake; ARGV token, group, consumer, idle time, how many of the stream,
-- their ids and counts, ids and counts of retry
if ARGV[1] ~= '' and redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'fenced' end
local own = tonumber(ARGV[5])
local function give(key, from, to)
  for at = from, to, 2 do
    redis.call('XCLAIM', key, ARGV[2], ARGV[3], 0, ARGV[at],
      'IDLE', ARGV[4], 'RETRYCOUNT', ARGV[at + 1], 'JUSTID')
  end
end
give(KEYS[2], 6, 5 + 2 * own)
give(KEYS[3], 6 + 2 * own, #ARGV)
if ARGV[1] ~= '' then redis.call('DEL', KEYS[1]) end
redis.call('XADD', KEYS[4], 'MAXLEN', '~', 16, '*', 'released', 1)
return 'ok'
