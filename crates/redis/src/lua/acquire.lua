-- Leases free partitions.
-- KEYS a lease and a fence for each; ARGV member, milliseconds, how many are wanted
local taken = {}
for at = 1, #KEYS, 2 do
  if #taken >= tonumber(ARGV[3]) then break end
  if redis.call('EXISTS', KEYS[at]) == 0 then
    local token = ARGV[1] .. '|' .. redis.call('INCR', KEYS[at + 1])
    redis.call('SET', KEYS[at], token, 'PX', ARGV[2])
    taken[#taken + 1] = {(at - 1) / 2, token}
  end
end
return taken
