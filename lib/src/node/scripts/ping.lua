-- Says whether this node is there and may vote.
-- pong | why this node may not vote

local why = bar()
if why then return barred(why) end
return {now, 'pong'}
