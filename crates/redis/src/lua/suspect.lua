-- Counts one more delivery of an event that was out when its member died.
-- KEYS lease, stream; ARGV token, group, consumer, id, count
if ARGV[1] ~= '' and redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'fenced' end
redis.call('XCLAIM', KEYS[2], ARGV[2], ARGV[3], 0, ARGV[4], 'RETRYCOUNT', ARGV[5], 'JUSTID')
return 'ok'
