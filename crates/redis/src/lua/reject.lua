-- Moves an event to the dead letters, for the owner of the partition only.
-- KEYS lease, source, state, dead letters, their index; ARGV token, group, id, state field,
-- source is the retry stream ('1'), topic, stream, letter, fields for when the entry is gone
if ARGV[1] ~= '' and redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'fenced' end
local found = redis.call('XRANGE', KEYS[2], ARGV[3], ARGV[3])
local fields = found[1] and found[1][2] or {unpack(ARGV, 9)}
local kept = {'tl-topic', ARGV[6], 'tl-group', ARGV[2], 'tl-stream', ARGV[7], 'tl-letter', ARGV[8]}
for at = 1, #fields, 2 do
  if string.sub(fields[at], 1, 3) ~= 'tl-' then
    kept[#kept + 1] = fields[at]
    kept[#kept + 1] = fields[at + 1]
  end
end
redis.call('XADD', KEYS[4], '*', unpack(kept))
redis.call('SADD', KEYS[5], KEYS[4])
redis.call('XACK', KEYS[2], ARGV[2], ARGV[3])
if ARGV[5] == '1' then redis.call('XDEL', KEYS[2], ARGV[3]) end
redis.call('HDEL', KEYS[3], ARGV[4])
return 'ok'
