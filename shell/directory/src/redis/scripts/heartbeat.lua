-- A region's summary. ARGV: 2 the region, 3 for how long (microseconds), 4 the summary, 5 how many regions there may be.
open()
local now = tick()
for _, region in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', now)) do
  redis.call('ZREM', due, region)
  redis.call('HDEL', beats, region)
end
if not redis.call('ZSCORE', due, ARGV[2]) and redis.call('ZCARD', due) >= tonumber(ARGV[5]) then
  return 'full'
end
redis.call('ZADD', due, now + ARGV[3], ARGV[2])
redis.call('HSET', beats, ARGV[2], ARGV[4])
return 'done'
