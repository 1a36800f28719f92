-- Renews leases; answers which are still held.
-- KEYS leases; ARGV milliseconds, a token for each
local held = {}
for at, lease in ipairs(KEYS) do
  if redis.call('GET', lease) == ARGV[at + 1] then
    redis.call('PEXPIRE', lease, ARGV[1])
    held[at] = 1
  else
    held[at] = 0
  end
end
return held
