-- domain::breaker::report. ARGV: token, epoch, a letter for each signal (h, u,
-- t, n), the policy's threshold and reset in ms, ttl in ms, tokens remembered.
-- Answers the state that it changed to, or nothing.
local key, token, signals = KEYS[1], ARGV[1], ARGV[3]
local epoch, threshold, reset = whole(ARGV[2], 'epoch'), whole(ARGV[4], 'threshold'), whole(ARGV[5], 'reset')
local ttl, remembered = whole(ARGV[6], 'ttl'), whole(ARGV[7], 'remembered')
local found = redis.call('HMGET', key, 'state', 'epoch', 'failures', 'reported')
if (found[1] or 'closed') ~= 'closed' or tonumber(found[2] or 0) ~= epoch then return '' end
local tokens = {}
for earlier in string.gmatch(found[4] or '', '%S+') do
  if earlier == token then return '' end
  tokens[#tokens + 1] = earlier
end

local before = tonumber(found[3] or 0)
local failures, opens = before, false
-- Said again later, this would count anew. Only success upon success may be
-- forgotten: it writes nothing.
if before == 0 and not string.find(signals, 'u', 1, true) then return '' end
for signal in string.gmatch(signals, '.') do
  if signal == 'h' then
    failures = 0
  elseif signal == 'u' then
    failures = failures + 1
    if failures >= threshold then opens = true; break end
  end
end
tokens[#tokens + 1] = token
if #tokens > remembered then table.remove(tokens, 1) end
redis.call('HSET', key, 'state', 'closed', 'failures', text_of(failures), 'reported', table.concat(tokens, ' '))
if opens then
  redis.call('HDEL', key, 'probe', 'probe_until', 'probe_path', 'candidate', 'candidate_suspect')
  redis.call('HSET', key, 'state', 'open', 'epoch', text_of(epoch + 1), 'opened_at', text_of(now),
    'retry_at', text_of(now + reset), 'reset_ms', text_of(reset))
end
redis.call('PEXPIRE', key, ttl)
return opens and 'open' or ''
