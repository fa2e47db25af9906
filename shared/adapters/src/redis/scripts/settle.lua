-- domain::record_rules::settle. ARGV: token, hop, ending, body hash, ttl in ms, how
-- many arguments set fields, those in pairs (an empty value removes its field), then when
-- the delivery was accepted, and the fields that a record begins with.
local key, token, ending, hash = KEYS[1], ARGV[1], ARGV[3], ARGV[4]
local hop, ttl, count = whole(ARGV[2], 'hop'), whole(ARGV[5], 'ttl'), whole(ARGV[6], 'count')
local accepted, new = whole(ARGV[7 + count], 'accepted'), ARGV[8 + count]

local found = redis.call('HMGET', key, 'status', 'body_hash', 'hop', 'lease', 'lease_until', 'settled', 'attempts',
  'unknown', 'webhook_url', 'created_at', 'erased')
local status, theirs, holder = found[1], found[2], found[4]
local at_hop = tonumber(found[3] or 0)
local mark = found[11]
if status and erases(mark, accepted) then return 'stale' end
ttl = lasting(key, mark, ttl)
-- A mark is no record to what was accepted after it.
if status and erases(mark, tonumber(found[10] or 0)) then found, status, theirs, holder = {}, nil, nil, nil end
local done = ending == 'delivered' or ending == 'fanned_out'
if not status then
  if ending == 'released' then return 'stale' end
  for i = 7, 6 + count, 2 do
    -- Its successor is out and says more, or its record has lived its life.
    if ARGV[i] == 'next_attempt_at' and ARGV[i + 1] ~= '' and tonumber(ARGV[i + 1]) <= now then return 'stale' end
  end
  local fields = new_fields(new)
  clear(key)
  redis.call('HSET', key, 'updated_at', text_of(now), unpack(fields))
  if mark then redis.call('HSET', key, 'erased', mark) end
  status, at_hop = redis.call('HGET', key, 'status'), 0
  found[7] = redis.call('HGET', key, 'attempts')
else
  if theirs and hash ~= '' and theirs ~= hash then return 'foreign' end
  if found[6] == token then return 'recorded' end
  if ending == 'released' then
    if holder ~= token then return 'stale' end
    redis.call('HDEL', key, 'lease', 'lease_until', 'firm')
    return 'recorded'
  end
  if status == 'delivered' then return done and 'recorded' or 'stale' end
  -- A 2xx is a fact whoever reports it; anything else may be old news. The end of a fan-out is
  -- a fact for its own life: a later event may be for other endpoints.
  if ending ~= 'delivered' and accepted < tonumber(found[10] or 0) then return 'stale' end
  if not done then
    local others = holder and holder ~= token and tonumber(found[5]) > now
    if at_hop > hop
      or (at_hop == hop and others)
      or (at_hop == hop and status == 'failed' and not found[8] and ending == 'failed') then
      return 'stale'
    end
  end
end

local next_hop = hop
if ending == 'retrying' or ending == 'parked' then next_hop = hop + 1 end
if done then next_hop = math.max(at_hop, hop) end
local gone = {'lease', 'lease_until', 'firm', 'reserved', 'unknown'}
if ending ~= 'parked' then gone[#gone + 1] = 'crashes' end
local kept = {'updated_at', text_of(now)}
if done then
  -- Nothing changes it any more.
  gone[#gone + 1] = 'claimed'; gone[#gone + 1] = 'settled'
else
  kept[#kept + 1] = 'settled'; kept[#kept + 1] = token
end
if next_hop > 0 then kept[#kept + 1] = 'hop'; kept[#kept + 1] = text_of(next_hop) end
for i = 7, 6 + count, 2 do
  if ARGV[i + 1] == '' then
    gone[#gone + 1] = ARGV[i]
  else
    kept[#kept + 1] = ARGV[i]; kept[#kept + 1] = ARGV[i + 1]
  end
end
if ending == 'parked' then
  kept[#kept + 1] = 'status'
  kept[#kept + 1] = tonumber(found[7] or 0) > 0 and 'retrying' or 'pending'
end
if found[1] and not found[9] then show(key, new) end
redis.call('HDEL', key, unpack(gone))
redis.call('HSET', key, unpack(kept))
redis.call('PEXPIRE', key, ttl)
return 'recorded'
