-- domain::breaker::admit. ARGV: delivery id, token, lease in ms, the policy's
-- reset in ms, ttl in ms, how long a call takes at most in ms, whether the delivery
-- failed before (0 or 1), a short name for its path.
local key, id, token, path = KEYS[1], ARGV[1], ARGV[2], ARGV[8]
local lease, reset, ttl = whole(ARGV[3], 'lease'), whole(ARGV[4], 'reset'), whole(ARGV[5], 'ttl')
local call = whole(ARGV[6], 'call')
local found = redis.call('HMGET', key, 'state', 'epoch', 'retry_at', 'reset_ms', 'probe', 'probe_until', 'candidate',
  'candidate_suspect', 'failed_paths')
local state, epoch = found[1] or 'closed', tonumber(found[2] or 0)
local was_open, candidate, candidate_suspect = found[4] or text_of(reset), found[7], found[8]

local suspect = ARGV[7] == '1'
for failed in string.gmatch(found[9] or '', '%S+') do suspect = suspect or failed == path end

if state == 'closed' then return {'regular', epoch} end
if state == 'open' then
  local left = tonumber(found[3] or 0) - now
  if left > 0 then
    local first = not candidate or candidate == id or (candidate_suspect and not suspect)
    if first and (candidate ~= id or not candidate_suspect ~= not suspect) then
      -- A server whose memory is full refuses this write, and the call is refused all the
      -- same.
      if suspect then
        redis.pcall('HSET', key, 'candidate', id, 'candidate_suspect', '1')
      else
        redis.pcall('HSET', key, 'candidate', id)
        if candidate_suspect then redis.pcall('HDEL', key, 'candidate_suspect') end
      end
    end
    return {'refused', left, first and 1 or 0}
  end
  -- A candidate that is not suspect is on its way, and is given the time of a call.
  if left + call > 0 and candidate and candidate ~= id and suspect and not candidate_suspect then
    return {'refused', left + call, 0}
  end
elseif found[5] then
  if found[5] == token then return {'probe', epoch, was_open} end
  local left = tonumber(found[6]) - now
  if left > 0 then return {'refused', math.min(left, call), 0} end
end
epoch = epoch + 1
redis.call('HDEL', key, 'candidate', 'candidate_suspect')
redis.call('HSET', key, 'state', 'half_open', 'epoch', text_of(epoch), 'probe', token,
  'probe_until', text_of(now + lease), 'probe_path', path)
redis.call('PEXPIRE', key, ttl)
return {'probe', epoch, was_open}
