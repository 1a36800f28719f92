-- Publishes what is due; answers when the next is.
-- KEYS delay, body, target, due, scheduled, wake; ARGV limit, group ('' for a publish)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local members = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
if #members > 0 and ARGV[2] ~= '' then
  redis.pcall('XGROUP', 'CREATE', KEYS[3], ARGV[2], '0', 'MKSTREAM')
end
for _, member in ipairs(members) do
  local body = redis.call('HGET', KEYS[2], member)
  if body then redis.call('XADD', KEYS[3], '*', unpack(cmsgpack.unpack(body))) end
  redis.call('ZREM', KEYS[1], member)
  redis.call('HDEL', KEYS[2], member)
  local bar = string.find(member, '|', 1, true)
  if bar then redis.call('HDEL', KEYS[5], string.sub(member, bar + 1)) end
end
if #members > 0 and ARGV[2] ~= '' then
  redis.call('XADD', KEYS[6], 'MAXLEN', '~', 16, '*', 'due', #members)
end
local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if first[2] then
  redis.call('ZADD', KEYS[4], first[2], KEYS[1])
else
  redis.call('ZREM', KEYS[4], KEYS[1])
end
return #members
