-- Takes over what is pending, oldest first. What was with a member twice is counted later, when it
-- goes out alone.
-- KEYS lease, stream, state; ARGV token, group, consumer, start, count, state field prefix,
-- least idle time, whose ('all', 'mine')
if ARGV[1] ~= '' and redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'fenced' end
if redis.call('EXISTS', KEYS[2]) == 0 then return {'', {}} end
local pending = redis.call('XPENDING', KEYS[2], ARGV[2], 'IDLE', ARGV[7], ARGV[4], '+', ARGV[5])
local out = {}
local last = ''
local origins = {}
for _, entry in ipairs(pending) do
  local id, consumer, count = entry[1], entry[2], entry[4]
  last = id
  local mine = consumer == ARGV[3]
  -- Its one delivery was the answer that never came.
  if mine and count == 1 then count = 0 end
  if not mine then origins[consumer] = true end
  if mine or ARGV[8] == 'all' then
    if mine or count >= 2 then
      redis.call('XCLAIM', KEYS[2], ARGV[2], ARGV[3], ARGV[7], id, 'JUSTID')
    else
      redis.call('XCLAIM', KEYS[2], ARGV[2], ARGV[3], ARGV[7], id, 'RETRYCOUNT', count + 1, 'JUSTID')
    end
    local found = redis.call('XRANGE', KEYS[2], id, id)
    if found[1] then
      local attempts = redis.call('HGET', KEYS[3], ARGV[6] .. id) or ''
      out[#out + 1] = {id, count, attempts, found[1][2]}
    else
      redis.call('XACK', KEYS[2], ARGV[2], id)
      out[#out + 1] = {id}
    end
  end
end
-- Whoever has nothing left here is forgotten: with entries pending it could not be.
for consumer in pairs(origins) do
  if #redis.call('XPENDING', KEYS[2], ARGV[2], '-', '+', 1, consumer) == 0 then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[2], ARGV[2], consumer)
  end
end
return {last, out}
