-- What a node keeps of a set, from a place on; from the start if it is not the set that was read.
-- KEYS: the set, its mark. ARGV: the mark that was seen, the place, the most members.
local mark = redis.call('GET', KEYS[2]) or ''
local from = tonumber(ARGV[2])
if mark ~= ARGV[1] then from = 0 end
return {mark, from, redis.call('ZRANGE', KEYS[1], from, from + tonumber(ARGV[3]) - 1)}
