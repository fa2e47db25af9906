-- domain::record_rules::forget. ARGV: body hash.
local key, hash = KEYS[1], ARGV[1]
local found = redis.call('HMGET', key, 'reserved', 'body_hash')
local theirs = found[2]
if found[1] and not (theirs and hash ~= '' and theirs ~= hash) then
  return redis.call('DEL', key)
end
return 0
