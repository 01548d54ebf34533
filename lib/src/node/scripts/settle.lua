-- After a release: lets go as a release does, and refuses what comes late.
-- KEYS[1]  the marker  KEYS[2] the lock  KEYS[3] its fence
-- ARGV[1]  owner  ARGV[2] the token of the grant that ended, 16 digits
-- ARGV[3]  the floor's expiry
-- settled 0 | settled 1

local DONE = 'settled'
local seen = redis.call('MGET', KEYS[2], KEYS[3])
local holder, fence = seen[1], seen[2]
local deleted = 0
if holder == ARGV[1] then
  local grant = '0'
  if fence and string.sub(fence, 39, 38 + tonumber(string.sub(fence, 35, 37))) == holder then
    grant = string.sub(fence, 18, 33)
  end
  if grant <= ARGV[2] then
    redis.call('DEL', KEYS[2])
    deleted = 1
  end
end
