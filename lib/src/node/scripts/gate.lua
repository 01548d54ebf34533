-- The head of every script that votes: may this node vote, and within which bounds?
-- KEYS[1]  the gate: what the marker said less than a second ago, in one string
-- KEYS[2]  the node's marker, a hash
-- ARGV[1]  the run id of the server at the other end of this connection
-- Gives  seen (the keys' values), now (microseconds), max_lease (milliseconds),
-- floor_base (microseconds: the floor of a resource that has none), and barred:
-- the answer that a node gives which may not vote, nil if it may. A node whose
-- guard runs has its bounds all the same. last_lock is the last of the locks' keys.
--
-- Every script replies with an array: the node's clock in microseconds, or 0
-- where it was not asked for, and an answer for each command. An answer is an
-- array of a word and its numbers, which stay below 2^53.

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
-- One look at all keys; the marker, which is no string, shows as absent.
local seen = redis.call('MGET', unpack(KEYS))
local gate = seen[1]
local max_lease, floor_base, barred
local last_lock = #KEYS

-- The gate: run id, high-water mark (16 digits), floor base (16 digits), maximum
-- lease. A clock clearly behind the mark stepped back: then the marker judges.
local run = #ARGV[1]
if gate and string.sub(gate, 1, run) == ARGV[1]
    and now + 2000000 >= tonumber(string.sub(gate, run + 2, run + 17)) then
  floor_base = tonumber(string.sub(gate, run + 19, run + 34))
  max_lease = tonumber(string.sub(gate, run + 36))
else
  local mark = redis.call('HMGET', KEYS[2],
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
      redis.pcall('SET', KEYS[1], string.format('%s %016.0f %016.0f %.0f', ARGV[1], high_water,
        floor_base, max_lease), 'PX', 1000)
    end
  end
end
