-- The head of every script that votes: may this node vote, and within which bounds?
-- KEYS[1]  the gate: what the marker said less than a second ago, in one string
-- KEYS[2]  the node's marker, a hash
-- ARGV[1]  the run id of the server at the other end of this connection
-- Gives  seen (the keys' values), now (microseconds), max_lease and kept (milliseconds),
-- floor_base (microseconds: the floor of a resource that has none), and barred:
-- the answer that a node gives which may not vote, nil if it may. A node whose
-- guard runs has its bounds all the same. The rules of locks go on from here: key and
-- arg are the first of the locks' keys and of the arguments about them, last_lock and
-- last_arg the last ones, and answers is what the call replies.
--
-- Every script replies with an array: the node's clock in microseconds, or 0
-- where it was not asked for, and an answer for each command. An answer is an
-- array of a word and its numbers, which stay below 2^53.
--
-- Most of what a node spends goes into these lines. Texts that were written here are
-- made numbers by arithmetic, which costs half of what tonumber does.

local KEYS, ARGV, sub, call = KEYS, ARGV, string.sub, redis.call
local clock = call('TIME')
local now = clock[1] * 1000000 + clock[2]
-- One look at all keys; the marker, which is no string, shows as absent.
local seen = call('MGET', unpack(KEYS))
local gate = seen[1]
local max_lease, floor_base, barred, kept
local answers, key, arg, last_lock, last_arg = {now}, 3, 2, #KEYS, #ARGV

-- The gate: high-water mark (16 digits), floor base (16 digits), run id, and how many
-- milliseconds a fence is kept, which is a day and two seconds above the maximum lease.
-- A clock clearly behind the mark stepped back: then the marker judges.
local run = #ARGV[1]
if gate and sub(gate, 35, 34 + run) == ARGV[1] and now + 2000000 >= sub(gate, 1, 16) + 0 then
  floor_base = sub(gate, 18, 33) + 0
  kept = sub(gate, 36 + run)
  max_lease = kept - 86402000
else
  local mark = call('HMGET', KEYS[2],
    'phase', 'run', 'max_lease', 'voting_from', 'floor_base', 'high_water')
  if not mark[1] then
    barred = {'unmarked'}
  elseif mark[1] ~= 'active' then
    barred = {'prepared'}
  elseif mark[2] ~= ARGV[1] then
    barred = {'restarted'}
  else
    local voting_from, high_water = tonumber(mark[4]), tonumber(mark[6])
    max_lease, floor_base = tonumber(mark[3]), tonumber(mark[5])
    kept = string.format('%.0f', max_lease + 86402000)
    local latest = now + max_lease * 1000
    if now + 2000000 < high_water then
      barred = {'stepped-back'}
    elseif voting_from > latest or floor_base > latest then
      barred = {'wild-guard'}
    elseif voting_from > now then
      barred = {'guarded', voting_from - now}
      floor_base = math.max(floor_base, math.max(high_water, now) - 86400000000)
    else
      -- Floors are kept for a day after their tokens: an absent one was below that.
      high_water = math.max(high_water, now)
      floor_base = math.max(floor_base, high_water - 86400000000)
      -- A full node may refuse these two: then the next call looks at the marker again.
      redis.pcall('HSET', KEYS[2], 'high_water', string.format('%.0f', high_water))
      redis.pcall('SET', KEYS[1], string.format('%016.0f %016.0f %s %s', high_water, floor_base,
        ARGV[1], kept), 'PX', 1000)
    end
  end
end
