-- After a release: lets go as a release does, and refuses what comes late.
-- KEYS[2]  the lock      KEYS[3]  its fence
-- ARGV[2]  owner  ARGV[3] the token of the grant that ended
-- settled 0 | settled 1

local token = tonumber(ARGV[3])
local deleted = 0
if redis.call('GET', KEYS[2]) == ARGV[2] then
  local _, grant, _, owner = read_fence(KEYS[3])
  if owner ~= ARGV[2] or grant <= token then
    redis.call('DEL', KEYS[2])
    deleted = 1
  end
end
raise_floor(KEYS[3], token)
return {now, 'settled', deleted}
