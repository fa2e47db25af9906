-- domain::record_rules::reserve. ARGV: body hash, ttl of a reservation in ms, when it was
-- accepted, and the new record's fields. A reservation lives shortly: `confirm` prolongs it.
local key, hash, ttl = KEYS[1], ARGV[1], whole(ARGV[2], 'ttl')
local found = redis.call('HMGET', key, 'status', 'body_hash', 'reserved', 'correlation_id', 'created_at',
  'erased')
local status, theirs = found[1], found[2]
if not status then
  local fields = new_fields(ARGV[4])
  clear(key)
  redis.call('HSET', key, 'reserved', '1', 'updated_at', text_of(now), unpack(fields))
  redis.call('PEXPIRE', key, ttl)
  return {'reserved', ARGV[3]}
end
if erases(found[6], tonumber(found[5] or 0)) then return 'conflict' end
if theirs and hash ~= '' and theirs ~= hash then return 'conflict' end
if found[3] then
  redis.call('PEXPIRE', key, ttl)
  return {'reserved', found[5]}
end
return {'known', status, found[4] or ''}
