-- Takes back one attempt of one call, whether it has arrived yet or not.
-- The lock goes with the last call that rests on its grant.
-- KEYS[2]  the lock      KEYS[3]  its fence
-- ARGV[2]  owner  ARGV[3] call  ARGV[4] the attempt's token
-- undone 0 | undone 1

local owner, call, token = ARGV[2], ARGV[3], tonumber(ARGV[4])
local deleted = 0
local floor, grant, shares, granted_to = read_fence(KEYS[3])
if granted_to == owner and shares ~= '*' and redis.call('GET', KEYS[2]) == owner then
  local left, before = {}, 0
  for other, proposed in string.gmatch(shares, '([^:,]+):(%d+)') do
    before = before + 1
    if other ~= call or tonumber(proposed) > token then
      left[#left + 1] = other .. ':' .. proposed
    end
  end
  if #left < before then
    if #left == 0 then
      -- First what gives way to others, then what a full node may refuse.
      redis.call('DEL', KEYS[2])
      deleted = 1
    end
    shares = #left == 0 and '-' or table.concat(left, ',')
    write_fence(KEYS[3], floor, grant, shares, granted_to)
  end
end
raise_floor(KEYS[3], token)
return {now, 'undone', deleted}
