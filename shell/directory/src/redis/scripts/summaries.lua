-- The summaries that have not run out.
local live, now = {}, clock()
for at, region in ipairs(redis.call('ZRANGEBYSCORE', due, '(' .. string.format('%.0f', now), '+inf')) do
  live[at] = redis.call('HGET', beats, region)
end
return live
