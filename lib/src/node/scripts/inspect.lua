-- Says who holds a lock, and changes nothing.
-- KEYS[2]  the lock      KEYS[3]  its fence
-- holder owner ttl token | absent

local holder = redis.call('GET', KEYS[2])
if not holder then return {now, 'absent'} end
local _, token, _, owner = read_fence(KEYS[3])
return {now, 'holder', holder, redis.call('PTTL', KEYS[2]), owner == holder and token or 0}
