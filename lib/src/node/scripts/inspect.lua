-- Says who holds a lock, and changes nothing.
-- KEYS[1]  the lock      KEYS[2]  its fence
-- holder owner ttl token | absent

local holder = redis.call('GET', KEYS[1])
if not holder then return {0, {'absent'}} end
local fence = redis.call('GET', KEYS[2])
local grant = 0
if fence and string.sub(fence, 39, 38 + tonumber(string.sub(fence, 35, 37))) == holder then
  grant = tonumber(string.sub(fence, 18, 33))
end
return {0, {'holder', holder, redis.call('PTTL', KEYS[1]), grant}}
