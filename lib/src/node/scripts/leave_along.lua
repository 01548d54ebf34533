-- Before a release by somebody who had the lock from a place in line: takes the call out of
-- the line, as leave_queue.lua does.
-- KEYS[2]  the marker    KEYS[3]  the lock      KEYS[4]  its fence
-- KEYS[5]  the line      KEYS[6]  until when each call stands     KEYS[7]  the ticket floor
-- ARGV, the last three: call, its ticket (16 digits), the floor's expiry

key, arg, last_lock, last_arg = 3, 2, 4, last_arg - 3
local leaver, last_ticket = ARGV[1 + last_arg], ARGV[2 + last_arg]
local stood = call('ZSCORE', KEYS[5], leaver)
if stood then
  call('ZREM', KEYS[5], leaver)
  call('ZREM', KEYS[6], leaver)
end
-- Where the ticket stood, its floor was lifted before it.
if not stood or tonumber(stood) < tonumber(last_ticket) then
  local clock = call('TIME')
  local now = clock[1] * 1000000 + clock[2]
  local mark = call('HMGET', KEYS[2], 'max_lease', 'floor_base', 'high_water')
  local ticket = tonumber(last_ticket)
  if mark[1] and ticket <= now + mark[1] * 1000 then
    local kept = seen[7] and tonumber(seen[7]) or math.max(tonumber(mark[3]), now) - 86400000000
    -- A full node releases all the same. A proposal that comes late stands for a while then.
    if ticket > math.max(kept, tonumber(mark[2])) then
      local wrote = redis.pcall('SET', KEYS[7], last_ticket, 'PXAT', ARGV[3 + last_arg])
      -- Who is next may propose behind it.
      if not wrote.err then seen[7] = last_ticket end
    end
  end
end
