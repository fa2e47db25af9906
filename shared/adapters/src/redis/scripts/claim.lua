-- domain::record_rules::claim. ARGV: token, hop, lease in ms, body hash, crashes that
-- end it, ttl of an unfinished record in ms, status and attempts of a waiting
-- delivery, its deadline, when it was accepted, and the fields that a record begins with.
local key, token, hash = KEYS[1], ARGV[1], ARGV[4]
local hop, lease = whole(ARGV[2], 'hop'), whole(ARGV[3], 'lease')
local limit, ttl = whole(ARGV[5], 'limit'), whole(ARGV[6], 'ttl')
local waiting, attempts, expires_at = ARGV[7], ARGV[8], ARGV[9]
local accepted, new = whole(ARGV[10], 'accepted'), ARGV[11]

local found = redis.call('HMGET', key, 'status', 'body_hash', 'hop', 'lease', 'lease_until', 'crashes',
  'firm', 'claimed', 'unknown', 'webhook_url', 'created_at', 'reserved', 'updated_at', 'erased', 'next_attempt_at')
local status, theirs, holder = found[1], found[2], found[4]
local at_hop, crashes = tonumber(found[3] or 0), tonumber(found[6] or 0)
local created, mark = tonumber(found[11] or 0), found[14]
if status and erases(mark, accepted) then return 'done' end
ttl = lasting(key, mark, ttl)
-- A mark is no record to what was accepted after it.
if status and erases(mark, created) then found, status, theirs, holder, at_hop = {}, nil, nil, nil, 0 end
local function grant() return crashes >= limit and 'crashed' or 'granted' end

if status then
  if theirs and hash ~= '' and theirs ~= hash then return 'foreign' end
  if holder == token then return grant() end
  -- A client that repeats a request while Redis is away gets it accepted twice. What was
  -- delivered after that is not delivered again. Without a 2xx the later message carries it:
  -- the record may be of an earlier life of its id.
  local repeated = status == 'delivered' and accepted <= tonumber(found[13] or 0)
  if accepted > created and not repeated then
    local left = holder and tonumber(found[5]) - now or 0
    if left > 0 then return {'busy', left} end
    -- The id was used again after this record was gone, and a Redis that was restored has
    -- it still.
    found, status, holder, at_hop, crashes = {}, nil, nil, 0, 0
  elseif status == 'delivered' then
    return 'done'
  elseif accepted < created and not found[12] then
    -- The id was used again, and that delivery is queued: it carries on.
    return 'stale'
  end
end
if status then
  if status == 'failed' and at_hop >= hop and not found[9] then return 'done' end
  if at_hop > hop then return 'stale' end
  if holder then
    -- A successor is only sent when its attempt has ended, so a higher hop voids the
    -- lease, unless that hop was claimed twice.
    local left = tonumber(found[5]) - now
    if left > 0 and (at_hop == hop or found[7]) then return {'busy', left} end
    if at_hop == hop then crashes = crashes + 1 end
  end
else
  local fields = new_fields(new)
  clear(key)
  redis.call('HSET', key, 'updated_at', text_of(now), unpack(fields))
  if mark then redis.call('HSET', key, 'erased', mark) end
end
-- One write for all that is kept, and one for what is gone, if anything is: most claims find
-- nothing of an earlier one.
local kept = {'lease', token, 'lease_until', text_of(now + lease), 'claimed', text_of(hop)}
local gone = {}
local function keep(field, value) kept[#kept + 1] = field; kept[#kept + 1] = value end
local function drop(field) gone[#gone + 1] = field end
local counted = nil
if hop > at_hop then
  -- The work on the hop before came to its successor: its crashes do not count any more.
  crashes = 0
  -- A redrive begins anew.
  if status == 'failed' then drop('error'); drop('error_class') end
  keep('expires_at', expires_at); keep('hop', text_of(hop)); keep('attempts', attempts)
  keep('status', waiting); keep('updated_at', text_of(now))
elseif status and status ~= 'failed' and tonumber(found[8] or -1) ~= hop then
  -- What was owed comes with a new budget and deadline.
  keep('expires_at', expires_at); keep('attempts', attempts)
  if not found[9] then keep('status', waiting) end
  counted = attempts
end
if found[9] and hop == at_hop then
  keep('status', tonumber(counted or redis.call('HGET', key, 'attempts') or 0) > 0 and 'retrying' or 'pending')
end
if status and not found[10] then show(key, new) end
-- A later request that is only reserved may have failed: this message carries it too.
if status and accepted < created then keep('created_at', text_of(accepted)) end
local firm = found[8] and tonumber(found[8]) == hop
if firm then keep('firm', '1') elseif found[7] then drop('firm') end
if crashes > 0 then keep('crashes', text_of(crashes)) elseif found[6] then drop('crashes') end
if found[12] then drop('reserved') end
if found[15] then drop('next_attempt_at') end
if found[9] then drop('unknown') end
-- A server whose memory is full takes what makes a record smaller, and then what follows in the
-- same script. Whoever takes over a claim, or begins again what has failed, is granted there.
local takes_over = status and not counted and (hop == at_hop or status == 'failed')
if takes_over then
  redis.call('HDEL', key, 'reserved', unpack(gone))
  redis.call('HSET', key, unpack(kept))
else
  redis.call('HSET', key, unpack(kept))
  if #gone > 0 then redis.call('HDEL', key, unpack(gone)) end
end
redis.call('PEXPIRE', key, ttl)
return grant()
