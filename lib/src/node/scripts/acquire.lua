-- Votes for an owner holding a lock.
-- KEYS[2]  the lock      KEYS[3]  its fence
-- ARGV[2]  owner  ARGV[3] lease  ARGV[4] call  ARGV[5] proposed token
-- granted | again token ttl | held ttl token | stale floor | ahead |
-- too-long max-lease | why this node may not vote

local why = bar()
if why then return barred(why) end
lift_high_water()

local owner, lease, call, token = ARGV[2], tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
if lease > max_lease then return {now, 'too-long', max_lease} end

local holder = redis.call('GET', KEYS[2])
local floor, grant, shares, granted_to = read_fence(KEYS[3])
if holder and holder ~= owner then return held(KEYS[2], holder, grant, granted_to) end
if token <= floor then return {now, 'stale', floor} end
if token > now + max_lease * 1000 then return {now, 'ahead'} end

local own_call = string.sub(shares, 1, #call + 1) == call .. ':'
if holder and granted_to == owner and not own_call then
  -- Another call of this owner holds it: this one rests on the same grant. Each
  -- call's undo takes back its own share; beyond four the grant is pinned.
  if shares ~= '*' then
    local all, joined = {}, false
    for other, proposed in string.gmatch(shares, '([^:,]+):(%d+)') do
      if other == call then proposed, joined = int(token), true end
      all[#all + 1] = other .. ':' .. proposed
    end
    if not joined then all[#all + 1] = call .. ':' .. int(token) end
    shares = #all > 4 and '*' or table.concat(all, ',')
    write_fence(KEYS[3], floor, grant, shares, owner)
  end
  local left = redis.call('PTTL', KEYS[2])
  if left < lease then
    redis.call('PEXPIRE', KEYS[2], int(lease))
    left = lease
  end
  return {now, 'again', grant, left}
end

-- The fence goes first: a lock without one could be granted twice under one token.
write_fence(KEYS[3], token, token, call .. ':' .. int(token), owner)
redis.call('SET', KEYS[2], owner, 'PX', int(lease))
return {now, 'granted'}
