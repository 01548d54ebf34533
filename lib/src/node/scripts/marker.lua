-- Reads or changes the node's marker; see core/marker.rs for the reasons.
-- KEYS[1]  the marker  KEYS[2] the gate
-- ARGV[1]  the run id of the server at the other end of this connection
-- ARGV[2]  read
--        | prepare  nonce durable cluster nodes max-lease seen-nonce-or-empty
--        | activate nonce
--        | guard    started-or-empty durable cluster nodes max-lease
--        | clock    era baseline refresh-or-rebase-or-jumped-by
-- now, then the marker's fields and values in turn

local verb = ARGV[2]
local key = KEYS[1]
local run = ARGV[1]
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local mark = redis.call('HMGET', key,
  'phase', 'run', 'max_lease', 'voting_from', 'floor_base', 'high_water')
local max_lease, voting_from = tonumber(mark[3] or 0), tonumber(mark[4] or 0)

local function int(number)
  return string.format('%.0f', number)
end

-- Why this node may not vote, as the gate has it; nil if it may.
local function bar()
  if not mark[1] then return 'unmarked' end
  if mark[1] ~= 'active' then return 'prepared' end
  if mark[2] ~= run then return 'restarted' end
  local latest = now + max_lease * 1000
  if now + 2000000 < tonumber(mark[6]) then return 'stepped-back' end
  if voting_from > latest or tonumber(mark[5]) > latest then return 'wild-guard' end
  if voting_from > now then return 'guarded' end
end

local function write(phase, nonce, from, base, cause)
  redis.call('HSET', key, 'phase', phase, 'nonce', nonce, 'run', run,
    'voting_from', int(from), 'floor_base', int(base), 'high_water', int(now),
    'durable', ARGV[4], 'cause', cause)
end

-- The clock has no baseline any more; what was found out before is of another era.
local function new_era(since)
  redis.call('HSET', key, 'clock_era', int(since), 'clock', '', 'clock_first', '')
end

local function name_cluster()
  redis.call('HSET', key, 'cluster', ARGV[5], 'nodes', ARGV[6], 'max_lease', ARGV[7])
end

-- What drift changes is nothing that the gate knows.
if verb ~= 'read' and not (verb == 'clock' and ARGV[5] == 'refresh') then
  redis.call('DEL', KEYS[2])
end

if verb == 'prepare' then
  local yields
  if not mark[1] then
    yields = ARGV[8] == ''
  else
    -- Who did not see what is there must look again: others may act on it already.
    yields = mark[1] ~= 'active' and redis.call('HGET', key, 'nonce') == ARGV[8]
      and (redis.call('HGET', key, 'cluster') > ARGV[5] or mark[2] ~= run)
  end
  if yields then
    name_cluster()
    write('prepared', ARGV[3], now, 0, '')
    new_era(0)
  end
elseif verb == 'activate' then
  if mark[1] == 'prepared' and mark[2] == run and redis.call('HGET', key, 'nonce') == ARGV[3] then
    redis.call('HSET', key, 'phase', 'active')
  end
elseif verb == 'guard' then
  local why = bar()
  if why == 'unmarked' or why == 'prepared' then
    -- The marker may have gone long after the server's start: the loss may be now.
    -- One that was only prepared says nothing of the cluster.
    name_cluster()
    local from = now + ARGV[7] * 1000
    write('active', '', from, from, 'lost')
    new_era(0)
  elseif not why or why == 'guarded' then
    redis.call('HSET', key, 'durable', ARGV[4])
  elseif why == 'restarted' and ARGV[4] == '1' and redis.call('HGET', key, 'durable') == '1' then
    redis.call('HSET', key, 'run', run)
  else
    local loss = now
    if why == 'restarted' and ARGV[3] ~= '' then
      -- By its start, but not before the node was last seen.
      loss = math.min(now, math.max(tonumber(ARGV[3]), tonumber(mark[6])))
    end
    -- A later witness never prolongs a guard, and none is longer than any lease.
    local longest = now + max_lease * 1000
    local from = math.min(math.max(loss + max_lease * 1000, voting_from), longest)
    write('active', '', from, from, why == 'restarted' and why or 'stepped-back')
    if why ~= 'restarted' then new_era(now) end
  end
elseif verb == 'clock' then
  if mark[1] == 'active' and redis.call('HGET', key, 'clock_era') == ARGV[3] then
    -- Of an era that the node began by itself nobody knows how the clock stood before now.
    if ARGV[3] ~= '0' and redis.call('HGET', key, 'clock') == '' then
      redis.call('DEL', KEYS[2])
      redis.call('HSET', key, 'voting_from', int(now + max_lease * 1000))
    end
    if ARGV[5] ~= 'refresh' then new_era(now) end
    redis.call('HSET', key, 'clock', ARGV[4])
    if redis.call('HGET', key, 'clock_first') == '' then
      redis.call('HSET', key, 'clock_first', ARGV[4])
    end
    if string.sub(ARGV[5], 1, 6) == 'jumped' then
      local from = now + max_lease * 1000
      -- Floors that went while the clock was ahead are gone; the rest is kept.
      if now + 2000000 < tonumber(mark[6]) or tonumber(mark[5]) > from then
        redis.call('HSET', key, 'floor_base', int(from), 'high_water', int(now))
      end
      redis.call('HSET', key, 'voting_from', int(from), 'cause', ARGV[5])
    end
  end
end
return {now, redis.call('HGETALL', key)}
