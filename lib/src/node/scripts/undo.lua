-- Takes back one attempt of one call, whether it has arrived yet or not.
-- The lock goes with the last call that rests on its grant.
-- KEYS[1]  the marker  KEYS[2] the lock  KEYS[3] its fence
-- ARGV[1]  owner  ARGV[2] the attempt's token, 16 digits  ARGV[3] the floor's expiry
-- ARGV[4]  call  ARGV[5] which attempt of it
-- ARGV[6]  whatever it says: who waits is told if the lock goes with it
-- undone 0 | undone 1

local DONE = 'undone'
local seen = redis.call('MGET', KEYS[2], KEYS[3])
local holder, fence = seen[1], seen[2]
local deleted = 0
if fence and holder == ARGV[1] then
  local length = tonumber(string.sub(fence, 35, 37))
  local shares = string.sub(fence, 40 + length)
  if string.sub(fence, 39, 38 + length) == holder and shares ~= '*' then
    local left, before = {}, 0
    for call, attempt in string.gmatch(shares, '([^:,]+):(%d+)') do
      before = before + 1
      if call ~= ARGV[4] or tonumber(attempt) > tonumber(ARGV[5]) then
        left[#left + 1] = call .. ':' .. attempt
      end
    end
    if #left < before then
      if #left == 0 then
        -- First what gives way to others, then what a full node may refuse.
        redis.call('DEL', KEYS[2])
        deleted = 1
        -- A user who may not publish undoes all the same; then nobody is told.
        if ARGV[6] then redis.pcall('PUBLISH', 'everlock~free:' .. KEYS[2], ARGV[2]) end
      end
      fence = deleted == 1 and string.sub(fence, 1, 16) .. ' 0000000000000000 000  -'
        or string.sub(fence, 1, 39 + length) .. table.concat(left, ',')
      redis.call('SET', KEYS[3], fence, 'KEEPTTL')
    end
  end
end
