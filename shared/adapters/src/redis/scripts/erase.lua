-- domain::record_rules::erase. ARGV: ttl of the mark in ms, its hop, its error. Answers when it
-- is of, and whether there was one.
local key, ttl, hop = KEYS[1], whole(ARGV[1], 'ttl'), whole(ARGV[2], 'hop')
local found = redis.call('HMGET', key, 'status', 'tenant', 'created_at', 'erased')
local status, tenant = found[1], found[2]
local at, again = now, false
if status then
  local created, mark = tonumber(found[3] or 0), found[4]
  at, again = math.max(now, created, tonumber(mark or 0)), erases(mark, created)
end
local at_text = text_of(at)
clear(key)
redis.call('HSET', key, 'status', 'failed', 'attempts', '0', 'created_at', at_text, 'updated_at', text_of(now),
  'expires_at', '0', 'correlation_id', '', 'hop', text_of(hop), 'error', ARGV[3], 'erased', at_text)
if status and tenant then redis.call('HSET', key, 'tenant', tenant) end
redis.call('PEXPIRE', key, ttl)
return {at_text, again and 1 or 0}
