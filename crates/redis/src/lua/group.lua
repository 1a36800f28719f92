-- Makes a group or adds patterns to it; answers its record and every topic.
-- KEYS version, topics, groups, changes; ARGV group, start, order, lanes, patterns
local raw = redis.call('HGET', KEYS[3], ARGV[1])
local group = raw and cjson.decode(raw) or {patterns = {}, order = ARGV[3], lanes = ARGV[4] == '1'}
local version
for at = 5, #ARGV do
  local known = false
  for _, pattern in ipairs(group.patterns) do known = known or pattern.p == ARGV[at] end
  if not known then
    version = version or redis.call('INCR', KEYS[1])
    table.insert(group.patterns, {p = ARGV[at], v = version, s = raw and '$' or ARGV[2]})
  end
end
if version then
  raw = cjson.encode(group)
  redis.call('HSET', KEYS[3], ARGV[1], raw)
  redis.call('XADD', KEYS[4], 'MAXLEN', '~', 64, '*', 'group', ARGV[1])
end
return {raw, redis.call('HGETALL', KEYS[2])}
