-- Removes a member from an index unless it was entered again meanwhile. ARGV:
-- the member, and the score that it was seen with.
local score = redis.call('ZSCORE', KEYS[1], ARGV[1])
if score and tonumber(score) == whole(ARGV[2], 'score') then return redis.call('ZREM', KEYS[1], ARGV[1]) end
return 0
