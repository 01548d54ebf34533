-- Acquires of several locks in one call.
-- Half of what a short command costs a server is to be called at all, and of the
-- rest a tenth goes with each argument.
-- KEYS[key …]  each lock, and its fence; locks that are released come after these
-- ARGV[arg …]  for each: lease, fence-after-the-grant
-- An acquire votes for an owner holding a lock:
--   1 (granted) | again token ttl | held ttl token | stale floor | ahead |
--   too-long max-lease | why this node may not vote
-- What Redis itself refuses is answered by its error, for each command alone.
--
-- A fence: floor (16 digits), the grant's token (16 digits), its owner's length
-- (3 digits), the owner, and the calls that rest on the grant with their latest
-- attempts (call:attempt,…; * if they are too many to count; - if none). It is
-- kept for a day after its floor, which lies no further ahead than any lease. Tokens
-- between the grant's and its floor are kept for its owner.

local try = redis.pcall
-- Each has two arguments, a release one.
local acquires = last_arg - arg + 1 - (last_lock - key + 1) / 2

for index = 1 + #answers, #answers + acquires do
  local holder, fence, lease, granted = seen[key], seen[key + 1], ARGV[arg], ARGV[arg + 1]
  local length = sub(granted, 35, 37) + 0
  local owner = sub(granted, 39, 38 + length)
  local answer
  if barred then
    answer = barred
  elseif lease + 0 > max_lease then
    answer = {'too-long', max_lease}
  elseif holder and holder ~= owner then
    answer = {'held', call('PTTL', KEYS[key]), granted_to(holder, fence) or 0}
  else
    local token, floor = sub(granted, 18, 33) + 0, floor_base
    local lifted = fence and tonumber(sub(fence, 1, 16))
    if lifted and lifted > floor then floor = lifted end
    if token <= floor then
      answer = {'stale', floor}
    elseif sub(granted, 1, 16) + 0 > now + max_lease * 1000 then
      answer = {'ahead'}
    elseif holder and granted_to(holder, fence) then
      local name, attempt = string.match(granted, '(%x+):(%d+)$')
      local shares = sub(fence, 40 + length)
      local latest = tonumber(string.match(shares, name .. ':(%d+)') or 0)
      if latest > tonumber(attempt) then
        -- A later attempt of this call rests on the grant: this request is late.
        answer = {'stale', floor}
      elseif string.match(shares, '^(%x+):%d+$') ~= name then
        -- Another call of this owner rests on the grant too: this one joins it. Each
        -- call's undo takes back its own share; beyond four the grant is pinned.
        if shares ~= '*' then
          local all, joined = {}, false
          for other, before in string.gmatch(shares, '([^:,]+):(%d+)') do
            if other == name then
              joined = true
              before = attempt
            end
            all[#all + 1] = other .. ':' .. before
          end
          if not joined then all[#all + 1] = name .. ':' .. attempt end
          local wrote = try('SET', KEYS[key + 1], sub(fence, 1, 39 + length)
            .. (#all > 4 and '*' or table.concat(all, ',')), 'KEEPTTL')
          if wrote.err then answer = wrote end
        end
        local left = call('PTTL', KEYS[key])
        if not answer and left < lease + 0 then
          left = lease + 0
          local lengthened = try('PEXPIRE', KEYS[key], lease)
          if type(lengthened) == 'table' then answer = lengthened end
        end
        answer = answer or {'again', sub(fence, 18, 33) + 0, left}
      end
    end
    if not answer then
      -- The fence goes first: a lock without one could be granted twice under one token.
      local wrote = try('SET', KEYS[key + 1], granted, 'PX', kept)
      if not wrote.err then
        if holder then
          wrote = try('SET', KEYS[key], owner, 'PX', lease)
        else
          wrote = try('SET', KEYS[key], owner, 'PX', lease, 'NX')
        end
      end
      if not wrote then
        answer = redis.error_reply('WRONGTYPE the lock\'s key holds something that is no lock')
      elseif wrote.err then
        answer = wrote
      else
        answer = 1
      end
    end
  end
  answers[index] = answer
  key = key + 2
  arg = arg + 2
end
