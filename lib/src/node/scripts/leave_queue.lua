-- Takes a call out of the line, and refuses its ticket if that comes late.
-- KEYS[1]  the marker    KEYS[2]  the lock
-- KEYS[3]  the line      KEYS[4]  until when each call stands     KEYS[5]  the ticket floor
-- ARGV[1]  call  ARGV[2] its last ticket, 16 digits  ARGV[3] the floor's expiry
-- left-queue 1 (it was first, and nobody holds the lock) | left-queue 0

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local clear = string.format('%.0f', now)
local over = redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', clear)
for _, dead in ipairs(over) do redis.call('ZREM', KEYS[3], dead) end
if over[1] then redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', clear) end

local wakes = 0
if redis.call('ZRANK', KEYS[3], ARGV[1]) == 0 and redis.call('EXISTS', KEYS[2]) == 0 then
  wakes = 1
end
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('ZREM', KEYS[4], ARGV[1])

-- A floor beyond what any lease may reach would refuse the resource for ever.
local mark = redis.call('HMGET', KEYS[1], 'max_lease', 'floor_base', 'high_water')
local ticket = tonumber(ARGV[2])
if mark[1] and ticket <= now + mark[1] * 1000 then
  local kept = redis.call('GET', KEYS[5])
  kept = kept and tonumber(kept) or math.max(tonumber(mark[3]), now) - 86400000000
  if ticket > math.max(kept, tonumber(mark[2])) then
    redis.call('SET', KEYS[5], ARGV[2], 'PXAT', ARGV[3])
  end
end
-- A user who may not publish leaves all the same; then nobody is told.
if wakes == 1 then redis.pcall('PUBLISH', 'everlock~free:' .. KEYS[2], ARGV[2]) end
return {now, {'left-queue', wakes}}
