-- The head of every script: the node's clock, its marker, and what both say.
-- KEYS[1]  the node's marker, a hash
-- ARGV[1]  the run id of the server at the other end of this connection
-- Replies are arrays: the node's clock in microseconds, a word, its numbers.
-- Times are microseconds since the epoch, leases milliseconds. Numbers stay
-- below 2^53, which Lua counts exactly, and are written without an exponent.

local RETENTION = 86400000000 -- floors outlive their tokens by a day
local SLACK = 2000000         -- and by more than the high-water mark can lag
local BEHIND = 2000000        -- a clock this far behind its mark stepped back

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local mark = redis.call('HMGET', KEYS[1],
  'phase', 'run', 'max_lease', 'voting_from', 'floor_base', 'high_water')
local marked = mark[1] and true or false
local max_lease = tonumber(mark[3] or 0)
local voting_from = tonumber(mark[4] or 0)
local floor_base = tonumber(mark[5] or 0)
local high_water = tonumber(mark[6] or 0)

local function int(number)
  return string.format('%.0f', number)
end

-- The word for why this node may not vote; nil if it may.
local function bar()
  if not marked then return 'unmarked' end
  if mark[1] ~= 'active' then return 'prepared' end
  if mark[2] ~= ARGV[1] then return 'restarted' end
  if now + BEHIND < high_water then return 'stepped-back' end
  local latest = now + max_lease * 1000
  if voting_from > latest or floor_base > latest then return 'wild-guard' end
  if voting_from > now then return 'guarded' end
end

local function barred(why)
  return {now, why, voting_from > now and voting_from - now or 0}
end

-- Remembers how far the clock has come, at most once a second.
local function lift_high_water()
  if marked and now - high_water >= 1000000 then
    redis.call('HSET', KEYS[1], 'high_water', int(now))
  end
end

-- A resource's fence: floor, grant's token, shares, grant's owner. The grant
-- counts only while its owner holds the lock.
local function read_fence(key)
  local text = redis.call('GET', key)
  if text then
    local floor, token, shares, owner = string.match(text, '^(%d+) (%d+) (%S+) (.*)$')
    return tonumber(floor), tonumber(token), shares, owner
  end
  return math.max(math.max(high_water, now) - RETENTION, floor_base), 0, '-', ''
end

local function write_fence(key, floor, token, shares, owner)
  redis.call('SET', key, table.concat({int(floor), int(token), shares, owner}, ' '),
    'PXAT', int(math.ceil((floor + RETENTION + SLACK) / 1000)))
end

-- The reply that another owner holds the lock.
local function held(lock, holder, token, owner)
  return {now, 'held', redis.call('PTTL', lock), owner == holder and token or 0}
end

-- Undo and settle end here: what comes late under a token not above this is refused.
local function raise_floor(key, token)
  if not marked or token > now + max_lease * 1000 then return end
  local floor, grant, shares, owner = read_fence(key)
  if token > floor then write_fence(key, token, grant, shares, owner) end
end
