-- Between the gate and the rules of locks: lets a call stand in line. It goes on
-- to the lock where an attempt is made and nobody stands before the call.
-- KEYS[3]  the lock      KEYS[4]  its fence
-- KEYS[5]  the line: calls by their tickets
-- KEYS[6]  until when each call stands, in microseconds
-- KEYS[7]  the ticket floor: the highest ticket that ever stood in this line
-- ARGV[arg …]  the attempt, as the rules of locks have it; missing where none is made
-- ARGV, the last four: call, ticket (16 digits), accepted or proposed, the floor's expiry
-- queued position length | ticket-stale floor | ahead | queue-full length |
-- why this node may not vote | what the rules of locks answer

-- What a node may have forgotten it can tell once its loss is noted, not before.
local function only(answer)
  answers[1 + #answers] = answer
  return answers
end
if barred and barred[1] ~= 'guarded' then return only(barred) end

local count = last_arg
local waiter, ticket = ARGV[count - 3], tonumber(ARGV[count - 2])
local clear = string.format('%.0f', now)
local over = redis.call('ZRANGEBYSCORE', KEYS[6], '-inf', clear)
for _, dead in ipairs(over) do redis.call('ZREM', KEYS[5], dead) end
if over[1] then redis.call('ZREMRANGEBYSCORE', KEYS[6], '-inf', clear) end

local lifted = seen[7] and tonumber(seen[7])
local stood = redis.call('ZSCORE', KEYS[5], waiter)
stood = stood and tonumber(stood)
if ARGV[count - 1] == 'proposed' and stood ~= ticket then
  local floor = math.max(lifted or 0, floor_base)
  if stood and stood < ticket then
    -- The earlier ticket goes, also if this one is refused.
    redis.call('ZREM', KEYS[5], waiter)
    redis.call('ZREM', KEYS[6], waiter)
  end
  if ticket <= floor then return only(barred or {'ticket-stale', floor}) end
  if ticket > now + max_lease * 1000 then return only({'ahead'}) end
  local length = redis.call('ZCARD', KEYS[5])
  if length >= MAX_QUEUE then return only({'queue-full', length}) end
end

-- The floor goes first: a line without one could be entered before those who left it.
if not lifted or lifted < ticket then
  local wrote = redis.pcall('SET', KEYS[7], ARGV[count - 2], 'PXAT', ARGV[count])
  -- What a full node refuses is this answer alone: a release in the same call was done.
  if wrote.err then return only(wrote) end
end
local deadline = now + TICKET_LIFE
local forgotten = string.format('%.0f', math.ceil(deadline / 1000))
local stands = redis.pcall('ZADD', KEYS[6], string.format('%.0f', deadline), waiter)
if type(stands) == 'table' then return only(stands) end
redis.call('ZADD', KEYS[5], ARGV[count - 2], waiter)
redis.call('PEXPIREAT', KEYS[6], forgotten)
redis.call('PEXPIREAT', KEYS[5], forgotten)

local position = redis.call('ZRANK', KEYS[5], waiter)
local tries, holds = count - arg == 5, false
if tries and position > 0 and granted_to(seen[3], seen[4]) then
  -- Who holds the lock already, by another call, takes nothing out of turn.
  local length = tonumber(sub(seen[4], 35, 37))
  holds = sub(ARGV[arg + 1], 35, 38 + length) == sub(seen[4], 35, 38 + length)
    and string.match(sub(seen[4], 40 + length), '^(%x+):%d+$') ~= waiter
end
if not tries or (position > 0 and not holds) then
  return only({'queued', position, redis.call('ZCARD', KEYS[5])})
end
last_lock, last_arg = 4, arg + 1
