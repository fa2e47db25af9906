-- domain::record_rules::confirm. ARGV: body hash, ttl of an unfinished record in ms,
-- then the birth's fields in pairs. Answers the record's status.
local key, hash, ttl = KEYS[1], ARGV[1], whole(ARGV[2], 'ttl')
local found = redis.call('HMGET', key, 'status', 'body_hash', 'reserved')
local status, theirs = found[1], found[2]
if not status then
  clear(key)
  redis.call('HSET', key, 'updated_at', text_of(now), unpack(ARGV, 3))
  redis.call('PEXPIRE', key, ttl)
  return redis.call('HGET', key, 'status')
end
if found[3] and not (theirs and hash ~= '' and theirs ~= hash) then
  redis.call('HDEL', key, 'reserved')
  redis.call('PEXPIRE', key, ttl)
end
return status
