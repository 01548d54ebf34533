-- Between a release and an acquire of the same lock, by whoever is next.

local let_go = answers[2]
if let_go == 1 or let_go[1] == 'released' then seen[3] = false end
key = 3
