-- Merges figures into a node's: each field keeps the highest that it was ever told. Returns all.
-- KEYS: the figures, the index of figures to report. ARGV: the entry in the index or nothing, how
-- long the figures live in milliseconds or 0, then fields and figures.
for at = 3, #ARGV, 2 do
  local old = tonumber(redis.call('HGET', KEYS[1], ARGV[at]) or '-1')
  if tonumber(ARGV[at + 1]) > old then
    redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 1])
    if ARGV[1] ~= '' then redis.call('SADD', KEYS[2], ARGV[1]) end
  end
end
if ARGV[2] ~= '0' then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return redis.call('HGETALL', KEYS[1])
