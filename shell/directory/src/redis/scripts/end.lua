-- An end. ARGV: 2 the room, 3 how long tombstones are kept (microseconds), 4 how many, 5 what the room shall be.
local room, kept, most, want = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
open()
local now = tick()
forget_some(now, kept, most)
local value = read(room, now, kept)
if value and is_held(value) and is_above(generation(value), generation(want)) then
  return 'done'
end
if value and not is_held(value) and not is_above(generation(want), generation(value)) then
  return 'done'
end
write(room, want)
redis.call('ZADD', ended, now, room)
forget_some(now, kept, most)
return 'done'
