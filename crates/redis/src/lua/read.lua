-- Reads what no member has had yet, for the owner of the partition only.
-- KEYS lease, stream, retry; ARGV token ('' for members without order), group, consumer, count
if ARGV[1] ~= '' and redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'fenced' end
local found
if redis.call('EXISTS', KEYS[3]) == 1 then
  found = redis.call('XREADGROUP', 'GROUP', ARGV[2], ARGV[3], 'COUNT', ARGV[4], 'STREAMS', KEYS[3], KEYS[2], '>', '>')
else
  found = redis.call('XREADGROUP', 'GROUP', ARGV[2], ARGV[3], 'COUNT', ARGV[4], 'STREAMS', KEYS[2], '>')
end
if found then return found end
-- Nothing is left: the reader may wait for what comes after this id.
local info = redis.call('XINFO', 'STREAM', KEYS[2])
for at = 1, #info, 2 do
  if info[at] == 'last-generated-id' then return info[at + 1] end
end
return '0-0'
