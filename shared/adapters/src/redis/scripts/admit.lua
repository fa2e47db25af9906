-- domain::breaker::admit. ARGV: delivery id, token, lease in ms, the policy's
-- reset in ms, ttl in ms, how long a call takes at most in ms.
local key, id, token = KEYS[1], ARGV[1], ARGV[2]
local lease, reset, ttl = whole(ARGV[3], 'lease'), whole(ARGV[4], 'reset'), whole(ARGV[5], 'ttl')
local call = whole(ARGV[6], 'call')
local found = redis.call('HMGET', key, 'state', 'epoch', 'retry_at', 'reset_ms', 'probe', 'probe_until', 'candidate')
local state, epoch = found[1] or 'closed', tonumber(found[2] or 0)
local was_open = found[4] or text_of(reset)

if state == 'closed' then return {'regular', epoch} end
if state == 'open' then
  local left = tonumber(found[3] or 0) - now
  if left > 0 then
    local first = not found[7] or found[7] == id
    if not found[7] then redis.call('HSET', key, 'candidate', id) end
    return {'refused', left, first and 1 or 0}
  end
elseif found[5] then
  if found[5] == token then return {'probe', epoch, was_open} end
  local left = tonumber(found[6]) - now
  if left > 0 then return {'refused', math.min(left, call), 0} end
end
epoch = epoch + 1
redis.call('HDEL', key, 'candidate')
redis.call('HSET', key, 'state', 'half_open', 'epoch', text_of(epoch), 'probe', token,
  'probe_until', text_of(now + lease))
redis.call('PEXPIRE', key, ttl)
return {'probe', epoch, was_open}
