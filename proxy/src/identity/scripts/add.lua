-- Adds members, each with its place as its score: nothing is ever removed, so what was read up to
-- a place stays read. A run and a mark, if they are given, note that this run has been taught all.
-- KEYS: the set, its mark. ARGV: the run, the mark for it, members.
for at = 3, #ARGV do
  if not redis.call('ZSCORE', KEYS[1], ARGV[at]) then
    redis.call('ZADD', KEYS[1], redis.call('ZCARD', KEYS[1]), ARGV[at])
  end
end
if ARGV[1] ~= '' then
  local mark = redis.call('GET', KEYS[2]) or ''
  if string.sub(mark, 1, #ARGV[1]) ~= ARGV[1] then
    redis.call('SET', KEYS[2], ARGV[2])
  end
end
return 1
