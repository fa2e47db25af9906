-- domain::record_rules::remove. ARGV: the last change of what goes, in ms.
local key, before = KEYS[1], whole(ARGV[1], 'before')
local found = redis.call('HMGET', key, 'status', 'updated_at', 'lease_until', 'webhook_url', 'erased')
local status = found[1]
if not status or found[5] or tonumber(found[2] or 0) > before then return 'kept' end
if status == 'delivered' or status == 'failed' then
  if found[3] and tonumber(found[3]) > now then return 'kept' end
  redis.call('DEL', key)
  return 'deleted'
end
if not found[4] then return 'kept' end
redis.call('HDEL', key, 'webhook_url', 'event_type', 'last_status_code', 'error_class', 'error', 'next_attempt_at',
  'duration_ms', 'log')
return 'hidden'
