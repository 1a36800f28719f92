-- Removes a consumer that has nothing pending.
-- KEYS stream; ARGV group, consumer
local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2])
if type(pending) ~= 'table' or pending['err'] or #pending > 0 then return 'kept' end
redis.pcall('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
return 'ok'
