-- Sends a dead letter back to its group, or to its broadcast subscriber.
-- KEYS dead letters, target, wake; ARGV id, group ('' for a broadcast subscriber)
local found = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])
if not found[1] then return 0 end
local kept = {}
for at = 1, #found[1][2], 2 do
  local name = found[1][2][at]
  if string.sub(name, 1, 3) ~= 'tl-' or (ARGV[2] == '' and name == 'tl-topic') then
    kept[#kept + 1] = name
    kept[#kept + 1] = found[1][2][at + 1]
  end
end
if ARGV[2] ~= '' then redis.pcall('XGROUP', 'CREATE', KEYS[2], ARGV[2], '0', 'MKSTREAM') end
redis.call('XADD', KEYS[2], '*', unpack(kept))
redis.call('XDEL', KEYS[1], ARGV[1])
if ARGV[2] ~= '' then redis.call('XADD', KEYS[3], 'MAXLEN', '~', 16, '*', 'redriven', 1) end
return 1
