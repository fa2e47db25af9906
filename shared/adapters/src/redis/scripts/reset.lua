-- domain::breaker::reset. ARGV: ttl in ms.
local key, ttl = KEYS[1], whole(ARGV[1], 'ttl')
local epoch = tonumber(redis.call('HGET', key, 'epoch') or 0) + 1
redis.call('DEL', key)
redis.call('HSET', key, 'state', 'closed', 'failures', '0', 'epoch', text_of(epoch))
redis.call('PEXPIRE', key, ttl)
return 'closed'
