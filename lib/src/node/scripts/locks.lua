-- Acquires and releases of many locks in one call; no lock comes twice.
-- Half of what a short command costs a server is to be called at all.
-- KEYS[3 …]  each lock, and its fence
-- ARGV[2 …]  for each: a lease owner fence-after-the-grant, or: r owner token,
-- or: p owner token, a release that nobody is told of
-- An acquire votes for an owner holding a lock:
--   1 (granted) | again token ttl | held ttl token | stale floor | ahead |
--   too-long max-lease | why this node may not vote
-- A release lets a lock go, if its owner holds it under a grant not above the
-- token; a node that may not vote releases all the same, and so does a full one:
--   1 (released, under this token) | released token | newer token |
--   held ttl token | absent
-- What Redis itself refuses is answered by its error, for each command alone.
--
-- A fence: floor (16 digits), the grant's token (16 digits), its owner's length
-- (3 digits), the owner, and the calls that rest on the grant with their latest
-- attempts (call:attempt,…; * if they are too many to count; - if none). It is
-- kept for a day after its floor, which lies no further ahead than any lease.

local sub = string.sub
local kept = max_lease and string.format('%.0f', max_lease + 86402000)
local answers, gone, free, releases = {now}, {}, {}, {}
local key, arg = 3, 2

while key < last_lock do
  local holder, fence = seen[key], seen[key + 1]
  local answer
  -- Whether who was granted the lock last is who holds it now.
  local length = holder and fence and tonumber(sub(fence, 35, 37))
  local known = length and sub(fence, 39, 38 + length) == holder

  if ARGV[arg] == 'a' then
    local owner, granted = ARGV[arg + 2], ARGV[arg + 3]
    if barred then
      answer = barred
    elseif tonumber(ARGV[arg + 1]) > max_lease then
      answer = {'too-long', max_lease}
    elseif holder and holder ~= owner then
      answer = {'held', redis.call('PTTL', KEYS[key]), known and tonumber(sub(fence, 18, 33)) or 0}
    else
      local token, floor = tonumber(sub(granted, 1, 16)), floor_base
      if fence then
        local lifted = tonumber(sub(fence, 1, 16))
        if lifted and lifted > floor then floor = lifted end
      end
      if token <= floor then
        answer = {'stale', floor}
      elseif token > now + max_lease * 1000 then
        answer = {'ahead'}
      elseif known then
        local call, attempt = string.match(granted, '(%x+):(%d+)$')
        local shares = sub(fence, 40 + length)
        local latest = tonumber(string.match(shares, call .. ':(%d+)') or 0)
        if latest > tonumber(attempt) then
          -- A later attempt of this call rests on the grant: this request is late.
          answer = {'stale', floor}
        elseif string.match(shares, '^(%x+):%d+$') ~= call then
          -- Another call of this owner rests on the grant too: this one joins it. Each
          -- call's undo takes back its own share; beyond four the grant is pinned.
          if shares ~= '*' then
            local all, joined = {}, false
            for other, before in string.gmatch(shares, '([^:,]+):(%d+)') do
              if other == call then
                joined = true
                before = attempt
              end
              all[#all + 1] = other .. ':' .. before
            end
            if not joined then all[#all + 1] = call .. ':' .. attempt end
            local wrote = redis.pcall('SET', KEYS[key + 1], sub(fence, 1, 39 + length)
              .. (#all > 4 and '*' or table.concat(all, ',')), 'KEEPTTL')
            if wrote.err then answer = wrote end
          end
          local left = redis.call('PTTL', KEYS[key])
          if not answer and left < tonumber(ARGV[arg + 1]) then
            left = tonumber(ARGV[arg + 1])
            local lengthened = redis.pcall('PEXPIRE', KEYS[key], ARGV[arg + 1])
            if type(lengthened) == 'table' then answer = lengthened end
          end
          answer = answer or {'again', tonumber(sub(fence, 18, 33)), left}
        end
      end
      if not answer then
        -- The fence goes first: a lock without one could be granted twice under one token.
        local wrote = redis.pcall('SET', KEYS[key + 1], granted, 'PX', kept)
        if not wrote.err then
          if holder then
            wrote = redis.pcall('SET', KEYS[key], owner, 'PX', ARGV[arg + 1])
          else
            wrote = redis.pcall('SET', KEYS[key], owner, 'PX', ARGV[arg + 1], 'NX')
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
    arg = arg + 4
  else
    local token = ARGV[arg + 2]
    if not holder then
      answer = {'absent'}
      -- It may have been let go silently, for somebody who went away.
      if ARGV[arg] == 'r' then free[#free + 1] = {KEYS[key], token} end
    else
      local grant = known and sub(fence, 18, 33) or '0'
      if holder ~= ARGV[arg + 1] then
        answer = {'held', redis.call('PTTL', KEYS[key]), tonumber(grant)}
      elseif grant == token then
        answer = 1
      elseif tonumber(grant) > tonumber(token) then
        answer = {'newer', tonumber(grant)}
      else
        answer = {'released', tonumber(grant)}
      end
      if answer == 1 or answer[1] == 'released' then
        gone[#gone + 1] = KEYS[key]
        if ARGV[arg] == 'r' then free[#free + 1] = {KEYS[key], token} end
        releases[#releases + 1] = #answers + 1
      end
    end
    arg = arg + 3
  end
  answers[#answers + 1] = answer
  key = key + 2
end

if gone[1] then
  local done = redis.pcall('DEL', unpack(gone))
  if type(done) == 'table' then
    free = {}
    for _, index in ipairs(releases) do answers[index] = done end
  end
end
-- A user who may not publish releases all the same; then nobody is told.
for _, let_go in ipairs(free) do
  redis.pcall('PUBLISH', 'everlock~free:' .. let_go[1], let_go[2])
end
return answers
