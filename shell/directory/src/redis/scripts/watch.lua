-- A page of changes. ARGV: 2 the content that the watcher knows, 3 the last change that it has seen, 4 its mark, 5 how many
-- rooms a page has. Answers the content, whether the watcher starts anew, the last change, the mark, the rooms and what they
-- are.
local now = instance()
local last, mark, most = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local forgotten = redis.call('HGET', meta, 'forgotten') or '0'
local anew = ARGV[2] ~= now
  or last > tonumber(redis.call('HGET', meta, 'changes') or 0)
  or tonumber(forgotten) > math.max(last, mark)
-- As text: a number would lose digits on its way into the range.
local from = anew and '0' or ARGV[3]
local page = redis.call('ZRANGEBYSCORE', changes, '(' .. from, '+inf', 'LIMIT', 0, most)
local values = {}
if #page > 0 then
  from = redis.call('ZSCORE', changes, page[#page])
  values = redis.call('HMGET', rooms, unpack(page))
end
return {now, anew and 1 or 0, from, anew and forgotten or ARGV[4], page, values}
