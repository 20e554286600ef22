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

-- Microseconds of this server's clock: below 2^53, as every number here.
local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end
