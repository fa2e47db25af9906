-- Takes from an index what is older than its records live, some at a time: after a
-- silence there may be a million, and everybody waits for one script. ARGV: the
-- score that is young enough, how many at most.
local key, limit = KEYS[1], whole(ARGV[2], 'limit')
local old = redis.call('ZCOUNT', key, '-inf', '(' .. text_of(whole(ARGV[1], 'score')))
if old == 0 then return 0 end
return redis.call('ZREMRANGEBYRANK', key, 0, math.min(old, limit) - 1)
