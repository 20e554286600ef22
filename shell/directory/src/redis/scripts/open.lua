-- What every script begins with. All keys of a partition are passed, in this order; ARGV[1] is an id for a content that
-- begins now, drawn anew for each call.
local meta, rooms, changes, ended, due, beats = unpack(KEYS)

-- A wiped partition is another content. What is left of the one before goes with it.
local function open()
  local id = redis.call('HGET', meta, 'id')
  if not id then
    redis.call('UNLINK', unpack(KEYS))
    redis.call('HSET', meta, 'id', ARGV[1])
    id = ARGV[1]
  end
  return id
end

-- Which content this is: another one also when a replica has become the primary, which may lack writes, and when the
-- primary has been started anew, since either draws a new id of its history.
local function instance()
  local history = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
  return string.sub(redis.sha1hex(open() .. history), 1, 32)
end

-- What is kept of the clock when it has gone on by this much, in microseconds, and what it goes on by at most between two
-- calls.
local TICK, STEP_MAX = 1000000, 10000000

-- The content's own clock in microseconds, below 2^53 as every number here. It began as the server's and goes on as that
-- does, but not by leaps: neither a clock that was set nor that of another server, which has become the primary, makes
-- tombstones older than they are.
local function clock()
  local time = redis.call('TIME')
  local server = time[1] * 1000000 + time[2]
  local kept = redis.call('HMGET', meta, 'seen', 'clock')
  local seen = tonumber(kept[1] or server)
  local now = tonumber(kept[2] or server) + math.min(math.max(server - seen, 0), STEP_MAX)
  return now, not kept[1] or server < seen or server - seen >= TICK, server
end

-- The same for whoever may write. Without memory left it is written another time.
local function tick()
  local now, is_due, server = clock()
  if is_due then
    local number = function(value) return string.format('%.0f', value) end
    redis.pcall('HSET', meta, 'seen', number(server), 'clock', number(now))
  end
  return now
end
