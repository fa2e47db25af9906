-- domain::record_rules::abandon. ARGV: the deadline of what is given up, in ms, its
-- error, and the ttl of its record in ms.
local key, before, ttl = KEYS[1], whole(ARGV[1], 'before'), whole(ARGV[3], 'ttl')
local found = redis.call('HMGET', key, 'status', 'expires_at', 'lease_until', 'webhook_url', 'erased',
  'next_attempt_at')
local status = found[1]
if status ~= 'pending' and status ~= 'retrying' then return 'kept' end
if not found[4] or tonumber(found[2] or 0) >= before then return 'kept' end
if found[3] and tonumber(found[3]) > now then return 'kept' end
-- What an endpoint is owed waits for longer than its deadline.
if found[6] and tonumber(found[6]) > now then return 'kept' end
redis.call('HDEL', key, 'next_attempt_at', 'lease', 'lease_until', 'firm')
redis.call('HSET', key, 'status', 'failed', 'error', ARGV[2], 'unknown', '1', 'updated_at', text_of(now))
redis.call('PEXPIRE', key, lasting(key, found[5], ttl))
return 'abandoned'
