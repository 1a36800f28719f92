-- Shows that a member without order still works on what it has.
-- KEYS stream; ARGV group, consumer, ids
ARGV[#ARGV + 1] = 'JUSTID'
redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, unpack(ARGV, 3, #ARGV))
return 'ok'
