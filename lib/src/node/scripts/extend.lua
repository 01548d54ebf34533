-- Adds to what remains of an owner's lease; never brings an expired one back.
-- KEYS[2]  the lock      KEYS[3]  its fence
-- ARGV[2]  owner  ARGV[3] milliseconds to add
-- extended token ttl | held ttl token | absent | why this node may not vote

local why = bar()
if why then return barred(why) end

local holder = redis.call('GET', KEYS[2])
if not holder then return {now, 'absent'} end
local _, token, _, owner = read_fence(KEYS[3])
if holder ~= ARGV[2] then return held(KEYS[2], holder, token, owner) end

local left = math.max(redis.call('PTTL', KEYS[2]), 0)
local target = math.max(left, math.min(left + tonumber(ARGV[3]), max_lease))
redis.call('PEXPIRE', KEYS[2], int(target))
return {now, 'extended', owner == holder and token or 0, target}
