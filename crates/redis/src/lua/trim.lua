-- Removes old entries that every group and every live subscriber has taken.
-- KEYS stream, readers, subscribers; ARGV id to cut at ('' to find one), length to keep
local function earlier(a, b)
  local am, as = string.match(a, '(%d+)-(%d+)')
  local bm, bs = string.match(b, '(%d+)-(%d+)')
  am, as, bm, bs = tonumber(am), tonumber(as), tonumber(bm), tonumber(bs)
  return am < bm or (am == bm and as < bs)
end
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local keep
for _, info in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local group = {}
  for at = 1, #info, 2 do group[info[at]] = info[at + 1] end
  local first = group['last-delivered-id']
  if group['pending'] > 0 then first = redis.call('XPENDING', KEYS[1], group['name'])[2] end
  if not keep or earlier(first, keep) then keep = first end
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local readers = redis.call('HGETALL', KEYS[2])
for at = 1, #readers, 2 do
  local seen = redis.call('ZSCORE', KEYS[3], readers[at])
  if not seen or tonumber(seen) < now then
    redis.call('HDEL', KEYS[2], readers[at])
  elseif not keep or earlier(readers[at + 1], keep) then
    keep = readers[at + 1]
  end
end
local floor = ARGV[1]
if floor == '' then
  local excess = redis.call('XLEN', KEYS[1]) - tonumber(ARGV[2])
  if excess <= 0 then return 0 end
  -- Where nothing may go, nothing is read to find out how much is too much.
  local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)
  if keep and not earlier(first[1][1], keep) then return 0 end
  local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', math.min(excess, 500) + 1)
  floor = oldest[#oldest][1]
end
if keep and earlier(keep, floor) then floor = keep end
return redis.call('XTRIM', KEYS[1], 'MINID', floor)
