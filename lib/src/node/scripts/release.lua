-- Lets a lock go, if its owner holds it under a grant not above the token.
-- A node that may not vote releases all the same, and so does one that is full.
-- KEYS[2]  the lock      KEYS[3]  its fence
-- ARGV[2]  owner  ARGV[3] token
-- released token | newer token | held ttl token | absent

local holder = redis.call('GET', KEYS[2])
if not holder then return {now, 'absent'} end
local _, token, _, owner = read_fence(KEYS[3])
if holder ~= ARGV[2] then return held(KEYS[2], holder, token, owner) end
if owner ~= holder then token = 0 end
if token > tonumber(ARGV[3]) then return {now, 'newer', token} end
redis.call('DEL', KEYS[2])
return {now, 'released', token}
