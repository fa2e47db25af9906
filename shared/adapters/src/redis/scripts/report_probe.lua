-- domain::breaker::report_probe. ARGV: token, epoch, verdict (h, u, t or n), the
-- policy's reset and its limit in ms, ttl in ms. Answers the state that it
-- changed to, or nothing.
local key, token, verdict = KEYS[1], ARGV[1], ARGV[3]
local epoch, reset, limit = whole(ARGV[2], 'epoch'), whole(ARGV[4], 'reset'), whole(ARGV[5], 'limit')
local ttl = whole(ARGV[6], 'ttl')
local found = redis.call('HMGET', key, 'state', 'epoch', 'probe', 'reset_ms')
if found[1] ~= 'half_open' or tonumber(found[2] or 0) ~= epoch or found[3] ~= token then return '' end
if verdict == 'n' then
  redis.call('HDEL', key, 'probe', 'probe_until')
  return ''
end
redis.call('HDEL', key, 'probe', 'probe_until', 'candidate')
redis.call('PEXPIRE', key, ttl)
if verdict == 'h' then
  redis.call('HDEL', key, 'opened_at', 'retry_at', 'reset_ms', 'reported')
  redis.call('HSET', key, 'state', 'closed', 'failures', '0', 'epoch', text_of(epoch + 1))
  return 'closed'
end
local longer = math.min((tonumber(found[4]) or reset) * 2, math.max(limit, reset))
redis.call('HSET', key, 'state', 'open', 'epoch', text_of(epoch + 1), 'opened_at', text_of(now),
  'retry_at', text_of(now + longer), 'reset_ms', text_of(longer))
return 'open'
