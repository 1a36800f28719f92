-- Writes the attempts of an event that stays pending.
-- KEYS lease, state; ARGV token, field, attempts
if ARGV[1] ~= '' and redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'fenced' end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
return 'ok'
