-- domain::live_state::note. ARGV: token, whether a call was delivered, whether one failed
-- (0 or 1), failures since the last that was delivered, the last one's duration in ms, ttl in ms,
-- tokens remembered. Answers the state after it, field by field, '' for what is absent.
local key, token, delivered, failed = KEYS[1], ARGV[1], ARGV[2] == '1', ARGV[3] == '1'
local since, duration = whole(ARGV[4], 'failures'), whole(ARGV[5], 'duration')
local ttl, remembered = whole(ARGV[6], 'ttl'), whole(ARGV[7], 'remembered')
local found = redis.call('HMGET', key, 'version', 'state', 'changed_at', 'failing_since', 'failures', 'last_success_at',
  'last_failure_at', 'last_duration_ms', 'noted')
local tokens, known = {}, false
for earlier in string.gmatch(found[9] or '', '%S+') do
  known = known or earlier == token
  tokens[#tokens + 1] = earlier
end
if not known then
  local at = text_of(now)
  if delivered then
    if found[4] or found[5] then redis.call('HDEL', key, 'failing_since', 'failures') end
    found[4], found[5], found[6] = false, false, at
    redis.call('HSET', key, 'last_success_at', at)
  end
  if failed then
    found[7] = at
    redis.call('HSET', key, 'last_failure_at', at)
  end
  if since > 0 then
    found[4], found[5] = found[4] or at, text_of((tonumber(found[5]) or 0) + since)
    redis.call('HSET', key, 'failing_since', found[4], 'failures', found[5])
  end
  found[8], tokens[#tokens + 1] = text_of(duration), token
  if #tokens > remembered then table.remove(tokens, 1) end
  redis.call('HSET', key, 'last_duration_ms', found[8], 'noted', table.concat(tokens, ' '))
  redis.call('PEXPIRE', key, ttl)
end
local answer = {}
for i = 1, 8 do answer[i] = found[i] or '' end
return answer
