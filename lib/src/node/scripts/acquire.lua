-- Votes for an owner holding a lock.
-- KEYS[3]  the lock      KEYS[4]  its fence
-- ARGV[2]  owner  ARGV[3] lease  ARGV[4] call  ARGV[5] proposed token, 16 digits
-- ARGV[6]  the fence as it is after a grant  ARGV[7] when that fence expires
-- ARGV[8]  which attempt of the call this is
-- granted | again token ttl | held ttl token | stale floor | ahead |
-- too-long max-lease | why this node may not vote
--
-- A fence: floor (16 digits), the grant's token (16 digits), its owner's length
-- (3 digits), the owner, and the calls that rest on the grant with their latest
-- attempts (call:attempt,…; * if they are too many to count; - if none).

local owner, lease, call, token = ARGV[2], tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
if lease > max_lease then return {now, 'too-long', max_lease} end

local holder, fence = seen[3], seen[4]
local granted_to, shares
if holder and fence then
  local length = tonumber(string.sub(fence, 35, 37))
  granted_to = string.sub(fence, 39, 38 + length)
  shares = string.sub(fence, 40 + length)
end
if holder and holder ~= owner then
  local grant = granted_to == holder and tonumber(string.sub(fence, 18, 33)) or 0
  return {now, 'held', redis.call('PTTL', KEYS[3]), grant}
end

local floor = floor_base
if fence then floor = math.max(floor, tonumber(string.sub(fence, 1, 16))) end
if token <= floor then return {now, 'stale', floor} end
if token > now + max_lease * 1000 then return {now, 'ahead'} end

-- A later attempt of this call rests on the grant: this request is late.
local latest = granted_to == owner and string.match(shares, call .. ':(%d+)')
if latest and tonumber(latest) > tonumber(ARGV[8]) then return {now, 'stale', floor} end

if holder and granted_to == owner and string.match(shares, '^(%x+):%d+$') ~= call then
  -- Another call of this owner rests on the grant too: this one joins it. Each
  -- call's undo takes back its own share; beyond four the grant is pinned.
  if shares ~= '*' then
    local all, joined = {}, false
    for other, attempt in string.gmatch(shares, '([^:,]+):(%d+)') do
      if other == call then
        joined = true
        attempt = math.max(tonumber(attempt), tonumber(ARGV[8]))
      end
      all[#all + 1] = other .. ':' .. attempt
    end
    if not joined then all[#all + 1] = call .. ':' .. ARGV[8] end
    redis.call('SET', KEYS[4], string.sub(fence, 1, 39 + #owner)
      .. (#all > 4 and '*' or table.concat(all, ',')), 'KEEPTTL')
  end
  local left = redis.call('PTTL', KEYS[3])
  if left < lease then
    redis.call('PEXPIRE', KEYS[3], ARGV[3])
    left = lease
  end
  return {now, 'again', tonumber(string.sub(fence, 18, 33)), left}
end

-- The fence goes first: a lock without one could be granted twice under one token.
redis.call('SET', KEYS[4], ARGV[6], 'PXAT', ARGV[7])
if holder then
  redis.call('SET', KEYS[3], owner, 'PX', ARGV[3])
elseif not redis.call('SET', KEYS[3], owner, 'PX', ARGV[3], 'NX') then
  return redis.error_reply('WRONGTYPE the lock\'s key holds something that is no lock')
end
return {now, 'granted'}
