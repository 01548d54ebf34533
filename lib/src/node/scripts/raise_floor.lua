-- The tail of undo and settle: what comes late under a token not above ARGV[2]
-- is refused. A floor beyond what any lease may reach would refuse the resource
-- for ever, so such a token raises none: it would be refused as ahead anyway.
-- KEYS[1]  the marker  KEYS[3] the fence  ARGV[2] token  ARGV[3] the floor's expiry

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local mark = redis.call('HMGET', KEYS[1], 'max_lease', 'floor_base', 'high_water')
local token = tonumber(ARGV[2])
if mark[1] and token <= now + mark[1] * 1000 then
  -- An absent floor was below what is a day old; no floor counts below the base.
  local kept = fence and tonumber(string.sub(fence, 1, 16))
    or math.max(tonumber(mark[3]), now) - 86400000000
  if token > math.max(kept, tonumber(mark[2])) then
    local rest = fence and string.sub(fence, 17) or ' 0000000000000000 000  -'
    redis.call('SET', KEYS[3], ARGV[2] .. rest, 'PXAT', ARGV[3])
  end
end
return {now, {DONE, deleted}}
