-- domain::record_rules::confirm. ARGV: body hash, ttl of an unfinished record in ms,
-- when it was accepted, and the new record's fields. Answers the record's status.
local key, hash, ttl = KEYS[1], ARGV[1], whole(ARGV[2], 'ttl')
local found = redis.call('HMGET', key, 'status', 'body_hash', 'reserved', 'created_at', 'erased')
local status, theirs, mark = found[1], found[2], found[5]
local accepted = whole(ARGV[3], 'accepted')
if status and erases(mark, accepted) then return status end
ttl = lasting(key, mark, ttl)
if not status or erases(mark, tonumber(found[4] or 0)) then
  local fields = new_fields(ARGV[4])
  clear(key)
  redis.call('HSET', key, 'updated_at', text_of(now), unpack(fields))
  if mark then redis.call('HSET', key, 'erased', mark) end
  redis.call('PEXPIRE', key, ttl)
  return redis.call('HGET', key, 'status')
end
-- A message of an earlier life says nothing about a later one's.
local older = accepted < tonumber(found[4] or 0)
if found[3] and not older and not (theirs and hash ~= '' and theirs ~= hash) then
  redis.call('HDEL', key, 'reserved')
  redis.call('PEXPIRE', key, ttl)
end
return status
