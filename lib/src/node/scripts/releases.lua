-- Releases of several locks in one call.
-- KEYS[key …]  each lock, and its fence
-- ARGV[arg …]  for each what its fence says of the grant: token (16 digits), the
--   owner's length (3 digits), the owner; a - before it if nobody is to be told
-- A release lets a lock go, if its owner holds it under a grant not above the
-- token; a node that may not vote releases all the same, and so does a full one:
--   1 (released, under this token) | released token | newer token |
--   held ttl token | absent

local gone, news, count = {}, {}, 0
local first_key, first_arg, before = key, arg, #answers

while key < last_lock do
  local holder, fence, of = seen[key], seen[key + 1], ARGV[arg]
  local aloud = string.byte(of) ~= 45
  if not aloud then of = sub(of, 2) end
  local answer
  if not holder then
    answer = {'absent'}
  elseif holder ~= sub(of, 22) then
    answer = {'held', call('PTTL', KEYS[key]), granted_to(holder, fence) or 0}
  elseif fence and sub(fence, 18, 17 + #of) == of then
    answer = 1
  else
    local grant = granted_to(holder, fence) or 0
    answer = {grant > sub(of, 1, 16) + 0 and 'newer' or 'released', grant}
  end
  local freed = answer == 1 or answer[1] == 'released'
  if freed then
    count = count + 1
    gone[count] = KEYS[key]
  end
  -- What is absent may have been let go silently, for somebody who went away.
  if aloud and (freed or not holder) then news[#news + 1] = arg - first_arg end
  answers[1 + before + arg - first_arg] = answer
  key = key + 2
  arg = arg + 1
end

if count > 0 then
  local done = redis.pcall('DEL', unpack(gone))
  if type(done) == 'table' then
    news = {}
    for at = 1 + before, #answers do
      local answer = answers[at]
      if answer == 1 or answer[1] == 'released' then answers[at] = done end
    end
  end
end
-- A user who may not publish releases all the same; then nobody is told.
for _, at in ipairs(news) do
  redis.pcall('PUBLISH', 'everlock~free:' .. KEYS[first_key + 2 * at],
    sub(ARGV[first_arg + at], 1, 16))
end
