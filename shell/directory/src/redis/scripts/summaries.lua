-- The summaries that have not run out.
local live = {}
for at, region in ipairs(redis.call('ZRANGEBYSCORE', due, '(' .. string.format('%.0f', clock()), '+inf')) do
  live[at] = redis.call('HGET', beats, region)
end
return live
