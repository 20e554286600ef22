-- What a room is: 'E' and the generation that it ended under (8 bytes, big-endian), or 'H', its generation, its placement
-- id (16 bytes) and the record, which is not looked into.

-- How many tombstones one call forgets at most.
local FEW = 16

local function generation(value)
  return string.sub(value, 2, 9)
end

local function id(value)
  return string.sub(value, 10, 25)
end

local function is_held(value)
  return string.sub(value, 1, 1) == 'H'
end

-- Generations are of 64 bits, Lua's numbers of 53; and `<` of strings goes by the server's locale.
local function is_above(one, other)
  local one_high, one_low = struct.unpack('>I4I4', one)
  local other_high, other_low = struct.unpack('>I4I4', other)
  return one_high > other_high or (one_high == other_high and one_low > other_low)
end

-- The next change: `room` is `value` now.
local function write(room, value)
  local number = redis.call('HINCRBY', meta, 'changes', 1)
  redis.call('HSET', rooms, room, value)
  redis.call('ZADD', changes, number, room)
end

local function forget(room)
  local number = tonumber(redis.call('ZSCORE', changes, room))
  redis.call('HDEL', rooms, room)
  redis.call('ZREM', changes, room)
  redis.call('ZREM', ended, room)
  if number > tonumber(redis.call('HGET', meta, 'forgotten') or 0) then
    redis.call('HSET', meta, 'forgotten', number)
  end
end

-- Forgets tombstones that are older than `kept` microseconds, and the oldest above `most`.
local function forget_some(now, kept, most)
  local surplus = redis.call('ZCARD', ended) - most
  local oldest = redis.call('ZRANGE', ended, 0, FEW - 1, 'WITHSCORES')
  for at = 1, #oldest, 2 do
    if surplus <= 0 and oldest[at + 1] + kept > now then
      return
    end
    forget(oldest[at])
    surplus = surplus - 1
  end
end

-- What `room` is; nil for unknown, as is one whose tombstone has had its time.
local function read(room, now, kept)
  local value = redis.call('HGET', rooms, room)
  if value and not is_held(value) and redis.call('ZSCORE', ended, room) + kept <= now then
    forget(room)
    return nil
  end
  return value or nil
end
