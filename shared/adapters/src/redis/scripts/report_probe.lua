-- domain::breaker::report_probe. ARGV: token, epoch, signal (h, u, t or n), the
-- policy's reset and its limit in ms, ttl in ms, paths remembered. Answers the state that it
-- changed to, or nothing.
local key, token, signal = KEYS[1], ARGV[1], ARGV[3]
local epoch, reset, limit = whole(ARGV[2], 'epoch'), whole(ARGV[4], 'reset'), whole(ARGV[5], 'limit')
local ttl, most = whole(ARGV[6], 'ttl'), whole(ARGV[7], 'most')
local found = redis.call('HMGET', key, 'state', 'epoch', 'probe', 'reset_ms', 'probe_path', 'failed_paths')
if found[1] ~= 'half_open' or tonumber(found[2] or 0) ~= epoch or found[3] ~= token then return '' end
if signal == 'n' then
  redis.call('HDEL', key, 'probe', 'probe_until', 'probe_path')
  return ''
end
redis.call('HDEL', key, 'probe', 'probe_until', 'probe_path', 'candidate', 'candidate_suspect')
redis.call('PEXPIRE', key, ttl)
if signal == 'h' then
  redis.call('HDEL', key, 'opened_at', 'retry_at', 'reset_ms', 'reported', 'failed_paths')
  redis.call('HSET', key, 'state', 'closed', 'failures', '0', 'epoch', text_of(epoch + 1))
  return 'closed'
end
local paths, known = {}, false
for path in string.gmatch(found[6] or '', '%S+') do
  known = known or path == found[5]
  paths[#paths + 1] = path
end
if found[5] and not known then paths[#paths + 1] = found[5] end
if #paths > most then table.remove(paths, 1) end
local longer = math.min((tonumber(found[4]) or reset) * 2, math.max(limit, reset))
redis.call('HSET', key, 'state', 'open', 'epoch', text_of(epoch + 1), 'opened_at', text_of(now),
  'retry_at', text_of(now + longer), 'reset_ms', text_of(longer), 'failed_paths', table.concat(paths, ' '))
return 'open'
