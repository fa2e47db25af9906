-- domain::live_state::set_state. ARGV: the card's version, its state, whether failures are
-- forgotten (0 or 1), ttl in ms, how long a change counts in ms. Answers whether it is news.
local key, version, state, ttl = KEYS[1], whole(ARGV[1], 'version'), ARGV[2], whole(ARGV[4], 'ttl')
local counts = whole(ARGV[5], 'counts')
local found = redis.call('HMGET', key, 'version', 'changed_at')
local known, at = tonumber(found[1]), tonumber(found[2] or 0)
if known and known >= version and now < at + counts then return 0 end
redis.call('HSET', key, 'version', text_of(version), 'state', state, 'changed_at', text_of(now))
if ARGV[3] == '1' then redis.call('HDEL', key, 'failing_since', 'failures') end
-- What calls have noted beside it may live longer.
redis.call('PEXPIRE', key, math.max(ttl, redis.call('PTTL', key)))
return 1
