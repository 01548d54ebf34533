-- Notes up to where figures were reported, and takes the entry from the index if that is all.
-- KEYS: the figures, the index. ARGV: the entry, up to where.
local old = tonumber(redis.call('HGET', KEYS[1], 'reported') or '-1')
if tonumber(ARGV[2]) > old then redis.call('HSET', KEYS[1], 'reported', ARGV[2]) end
local all = redis.call('HGETALL', KEYS[1])
local counted, reported = 0, 0
for at = 1, #all, 2 do
  if string.sub(all[at], 1, 2) == 'c:' then counted = counted + tonumber(all[at + 1]) end
  if all[at] == 'reported' then reported = tonumber(all[at + 1]) end
end
if counted <= reported then redis.call('SREM', KEYS[2], ARGV[1]) end
return 1
