-- domain::record_rules::redrive. ARGV: hop, due, body hash, ttl of an unfinished record
-- in ms, its deadline, when it was accepted, and the fields that a record begins with. Answers
-- the record's status.
local key, hop, due, hash = KEYS[1], whole(ARGV[1], 'hop'), whole(ARGV[2], 'due'), ARGV[3]
local ttl, expires_at = whole(ARGV[4], 'ttl'), ARGV[5]
local found = redis.call('HMGET', key, 'status', 'body_hash', 'hop', 'webhook_url', 'created_at', 'erased')
local status, theirs, mark = found[1], found[2], found[6]
local accepted = whole(ARGV[6], 'accepted')
if status and erases(mark, accepted) then return status end
ttl = lasting(key, mark, ttl)
if status and not erases(mark, tonumber(found[5] or 0)) then
  local foreign = theirs and hash ~= '' and theirs ~= hash
  -- The id was used again since: that delivery is not this one.
  local older = accepted < tonumber(found[5] or 0)
  if foreign or older or status ~= 'failed' or tonumber(found[3] or 0) >= hop then return status end
  if not found[4] then show(key, ARGV[7]) end
else
  local fields = new_fields(ARGV[7])
  clear(key)
  redis.call('HSET', key, unpack(fields))
  if mark then redis.call('HSET', key, 'erased', mark) end
end
redis.call('HDEL', key, 'error', 'error_class', 'crashes', 'lease', 'lease_until', 'firm', 'unknown')
redis.call('HSET', key, 'status', 'pending', 'attempts', '0', 'hop', text_of(hop), 'expires_at', expires_at,
  'next_attempt_at', text_of(due), 'updated_at', text_of(now))
redis.call('PEXPIRE', key, ttl)
return 'pending'
