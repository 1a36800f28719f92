-- Leases free partitions, and those whose lease this member took before and never heard of.
-- A number is never used again, even by a server that came back without what it had.
-- KEYS a lease and a fence for each; ARGV member, milliseconds, how many are wanted
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local own = ARGV[1] .. '|'
local taken = {}
for at = 1, #KEYS, 2 do
  if #taken >= tonumber(ARGV[3]) then break end
  local owner = redis.call('GET', KEYS[at])
  if not owner or string.sub(owner, 1, #own) == own then
    local last = tonumber(redis.call('GET', KEYS[at + 1]) or '0')
    local fence = string.format('%.0f', math.max(last + 1, now))
    redis.call('SET', KEYS[at + 1], fence)
    redis.call('SET', KEYS[at], own .. fence, 'PX', ARGV[2])
    taken[#taken + 1] = {(at - 1) / 2, own .. fence}
  end
end
return taken
