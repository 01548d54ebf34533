-- Before a release by somebody who had the lock from a place in line: takes the call out of
-- the line, as leave_queue.lua does.
-- KEYS[1]  the lock      KEYS[2]  its fence      KEYS[3]  the marker
-- KEYS[4]  the line      KEYS[5]  until when each call stands     KEYS[6]  the ticket floor
-- ARGV[2]  call  ARGV[3] its ticket, 16 digits  ARGV[4] the floor's expiry

last_lock = 2
local stood = call('ZSCORE', KEYS[4], ARGV[2])
if stood then
  call('ZREM', KEYS[4], ARGV[2])
  call('ZREM', KEYS[5], ARGV[2])
end
-- Where the ticket stood, its floor was lifted before it.
if not stood or tonumber(stood) < tonumber(ARGV[3]) then
  local clock = call('TIME')
  local now = clock[1] * 1000000 + clock[2]
  local mark = call('HMGET', KEYS[3], 'max_lease', 'floor_base', 'high_water')
  local ticket = tonumber(ARGV[3])
  if mark[1] and ticket <= now + mark[1] * 1000 then
    local kept = seen[6] and tonumber(seen[6]) or math.max(tonumber(mark[3]), now) - 86400000000
    -- A full node releases all the same. A proposal that comes late stands for a while then.
    if ticket > math.max(kept, tonumber(mark[2])) then
      redis.pcall('SET', KEYS[6], ARGV[3], 'PXAT', ARGV[4])
    end
  end
end
