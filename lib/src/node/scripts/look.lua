-- The head of a call that only releases, for which a node need not vote: see the gate.
local KEYS, ARGV, sub, call = KEYS, ARGV, string.sub, redis.call
local seen = call('MGET', unpack(KEYS))
local answers, key, arg, last_lock, last_arg = {0}, 1, 1, #KEYS, #ARGV
