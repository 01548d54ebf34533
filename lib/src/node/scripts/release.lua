-- Lets a lock go, if its owner holds it under a grant not above the token.
-- A node that may not vote releases all the same, and so does one that is full.
-- KEYS[1]  the lock      KEYS[2]  its fence
-- ARGV[1]  owner  ARGV[2] token, 16 digits
-- released token | newer token | held ttl token | absent

local seen = redis.call('MGET', KEYS[1], KEYS[2])
local holder, fence = seen[1], seen[2]
if not holder then return {0, 'absent'} end
local grant = '0'
if fence and string.sub(fence, 39, 38 + tonumber(string.sub(fence, 35, 37))) == holder then
  grant = string.sub(fence, 18, 33)
end
if holder ~= ARGV[1] then
  return {0, 'held', redis.call('PTTL', KEYS[1]), tonumber(grant)}
end
-- Digits of one length compare as the numbers do.
if grant > ARGV[2] then return {0, 'newer', tonumber(grant)} end
redis.call('DEL', KEYS[1])
return {0, 'released', tonumber(grant)}
