-- Says whether this node may vote and can write. Marker and gate are written
-- anew, so that a node which takes no writes answers with its reason.
-- pong | why this node may not vote

if barred then return {now, barred} end
-- The mark never falls: steps of a clock that are small one by one add up.
local mark = tonumber(redis.call('HGET', KEYS[2], 'high_water') or now)
redis.call('HSET', KEYS[2], 'high_water', string.format('%.0f', math.max(mark, now)))
return {now, {'pong'}}
