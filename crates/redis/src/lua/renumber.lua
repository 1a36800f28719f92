-- Raises the fencing number for its owner: what the owner sent before and never heard of is discarded.
-- KEYS lease, fence; ARGV token
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'fenced' end
return redis.call('INCR', KEYS[2])
