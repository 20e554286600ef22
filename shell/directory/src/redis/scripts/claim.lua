-- A place or a replace. ARGV: 2 the room, 3 how long tombstones are kept (microseconds), 4 how many, 5 how many rooms are
-- held at most, 6 the generation to supersede (one that nobody has: none), 7 what the room shall be.
-- Answers what came of it, and what the room is where that is not what was wanted.
local room, kept, want = ARGV[2], tonumber(ARGV[3]), ARGV[7]
open()
local now = tick()
forget_some(now, kept, tonumber(ARGV[4]))
local value = read(room, now, kept)
if value and is_held(value) then
  if id(value) == id(want) then
    return {'won', value}
  end
  if generation(value) ~= ARGV[6] then
    return {'held', value}
  end
else
  if value and not is_above(generation(want), generation(value)) then
    return {'fenced', value}
  end
  if redis.call('HLEN', rooms) - redis.call('ZCARD', ended) >= tonumber(ARGV[5]) then
    return {'full'}
  end
end
-- First what takes memory: a script that has written something is never refused for want of it.
write(room, want)
redis.call('ZREM', ended, room)
return {'won'}
