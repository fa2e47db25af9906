-- Deletes a record that was accepted until then. ARGV: that time, in ms. Answers whether it did.
local key, before = KEYS[1], whole(ARGV[1], 'before')
local created = tonumber(redis.call('HGET', key, 'created_at') or '')
if not created or created > before then return '0' end
redis.call('DEL', key)
return '1'
