-- Moves an event into the delayed retries of its group.
-- KEYS lease, source, state, delay, body, due; ARGV token, group, id, attempts, milliseconds,
-- state field, source is the retry stream ('1'), member, fields for when the entry is gone
if ARGV[1] ~= '' and redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'fenced' end
local found = redis.call('XRANGE', KEYS[2], ARGV[3], ARGV[3])
local fields = found[1] and found[1][2] or {unpack(ARGV, 9)}
local kept = {'tl-attempts', ARGV[4]}
for at = 1, #fields, 2 do
  if fields[at] ~= 'tl-attempts' then
    kept[#kept + 1] = fields[at]
    kept[#kept + 1] = fields[at + 1]
  end
end
local time = redis.call('TIME')
local at = time[1] * 1000 + math.ceil(time[2] / 1000) + tonumber(ARGV[5])
redis.call('ZADD', KEYS[4], at, ARGV[8])
redis.call('HSET', KEYS[5], ARGV[8], cmsgpack.pack(kept))
redis.call('ZADD', KEYS[6], 'LT', at, KEYS[4])
redis.call('XACK', KEYS[2], ARGV[2], ARGV[3])
if ARGV[7] == '1' then redis.call('XDEL', KEYS[2], ARGV[3]) end
redis.call('HDEL', KEYS[3], ARGV[6])
return 'ok'
