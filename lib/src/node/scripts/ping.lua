-- Says whether this node may vote and can write. Marker and gate are written
-- anew, so that a node which takes no writes answers with its reason.
-- pong | why this node may not vote

if barred then return {now, barred} end
redis.call('HSET', KEYS[2], 'high_water', string.format('%.0f', now))
return {now, {'pong'}}
