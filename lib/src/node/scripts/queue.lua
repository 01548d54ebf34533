-- Says how many wait in line, and changes nothing.
-- KEYS[1]  until when each call stands in line, in microseconds
-- queue length

local clock = redis.call('TIME')
local now = string.format('(%.0f', clock[1] * 1000000 + clock[2])
return {0, {'queue', redis.call('ZCOUNT', KEYS[1], now, '+inf')}}
