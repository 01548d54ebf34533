-- Adds to what remains of an owner's lease; never brings an expired one back.
-- KEYS[3]  the lock      KEYS[4]  its fence
-- ARGV[2]  owner  ARGV[3] milliseconds to add
-- extended token ttl | held ttl token | absent | why this node may not vote

if barred then return {now, barred} end
local holder, fence = seen[3], seen[4]
if not holder then return {now, {'absent'}} end
local grant = granted_to(holder, fence) or 0
local left = redis.call('PTTL', KEYS[3])
if holder ~= ARGV[2] then return {now, {'held', left, grant}} end

left = math.max(left, 0)
local target = math.max(left, math.min(left + tonumber(ARGV[3]), max_lease))
redis.call('PEXPIRE', KEYS[3], target)
-- A lock that is extended for very long must not outlive its fence.
if fence and now > tonumber(string.sub(fence, 1, 16)) + 43200000000 then
  redis.call('PEXPIRE', KEYS[4], 86402000)
end
return {now, {'extended', grant, target}}
