-- domain::rate_rules::take. ARGV: token, calls wanted, the card's rate in thousandths of
-- a call a second (0 for none), answers remembered. Answers how many are granted, and a time
-- for each of the others.
local key, token, wanted, own = KEYS[1], ARGV[1], whole(ARGV[2], 'wanted'), whole(ARGV[3], 'rate')
local remembered = whole(ARGV[4], 'remembered')
local HOUR, HIGHEST, SENDING = 3600000, 500000, 25
local found = redis.call('HMGET', key, 'calls', 'counted_at', 'second', 'granted', 'advised_until_us', 'blocked_until',
  'rate', 'answers', 'advised_second', 'asking')
local calls, counted, second, so_far = tonumber(found[1]), tonumber(found[2]), tonumber(found[3]), tonumber(found[4])
local advised, blocked, before = tonumber(found[5]), tonumber(found[6]), tonumber(found[7] or 0)
local at, asking = tonumber(found[9] or 0), tonumber(found[10] or 0)

-- What is that far ahead was written by another clock.
if blocked and blocked > now + 2 * HOUR then blocked = nil end
-- The lower one of the card's rate and the learned one.
local function limit(time)
  local rate = own > 0 and own
  if blocked then
    local minutes = math.floor(math.max(time - blocked, 0) / 60000)
    local learned = minutes < 6 and 10000 * 2 ^ minutes
    if learned and (not rate or learned < rate) then rate = learned end
  end
  return rate
end
local rate = limit(now)
if not rate then return {wanted} end

local entries = {}
for entry in string.gmatch(found[8] or '', '%S+') do
  local earlier, answer = string.match(entry, '^(%S+)=([%d,]+)$')
  if earlier == token then
    local numbers = {}
    for number in string.gmatch(answer, '%d+') do numbers[#numbers + 1] = tonumber(number) end
    return numbers
  end
  entries[#entries + 1] = entry
end

-- The calls of the time that has passed.
local function burst(of) return math.max(of * 1000, 3000000) end
local full = burst(rate)
if not calls or not counted or counted > now + 2 * HOUR then calls, counted = full, now end
local passed = math.max(now - counted, 0)
local is_quiet = passed >= math.ceil(math.max(full - calls, 0) / rate) + 30000
if advised and (is_quiet or advised > (now + 6 * HOUR) * 1000) then advised = nil end
if not advised then at, asking = 0, 0 end
calls, counted = math.min(calls + passed * rate, full), math.max(counted, now)

-- As many deliveries wait as before a change of the card's rate.
if own ~= before then
  at, asking = 0, 0
  if advised and own > 0 and before > 0 then
    local ahead = math.min(math.max(advised - now * 1000, 0), 4 * HOUR * 1000) * before
    advised = now * 1000 + (ahead - math.fmod(ahead, own)) / own
  else
    advised = nil
  end
end

local granted, this_second = 0, math.floor(now / 1000)
if not blocked or now >= blocked then
  if second ~= this_second or not so_far then so_far = 0 end
  local most = math.floor(full * 11 / 10 / 1000000)
  granted = math.min(math.floor(calls / 1000000), math.max(most - so_far, 0), wanted)
end
local answer, first, sent = {granted}, math.max(now, blocked or 0) * 1000, math.floor((now + SENDING) / 1000)
for i = 2, wanted - granted + 1 do
  local behind = math.max(advised or 0, first)
  local allowed = limit(math.floor(behind / 1000)) or HIGHEST
  local interval = math.ceil(1000000000 / allowed)
  advised = behind + interval + math.floor(interval / 32)
  -- A second's worth asks in each second, and nobody before those that were advised earlier.
  local comes = sent + math.max(math.ceil((math.ceil(advised / 1000) - now) / 1000), 1)
  if at < comes then
    at, asking = comes, 1
  elseif asking < math.floor(burst(allowed) / 1000000) then
    asking = asking + 1
  else
    at, asking = at + 1, 1
  end
  if at > comes then advised = math.max(advised, (now + (at - sent - 1) * 1000 + SENDING) * 1000) end
  if advised > (now + 4 * HOUR) * 1000 then advised, at, asking = (now + 3 * HOUR) * 1000, 0, 0 end
  answer[i] = math.ceil(advised / 1000)
end

local texts = {}
for i = 1, #answer do texts[i] = text_of(answer[i]) end
entries[#entries + 1] = token .. '=' .. table.concat(texts, ',')
if #entries > remembered then table.remove(entries, 1) end
if granted > 0 then
  calls = calls - granted * 1000000
  redis.call('HSET', key, 'second', text_of(this_second), 'granted', text_of(so_far + granted))
end
redis.call('HSET', key, 'calls', text_of(calls), 'counted_at', text_of(counted), 'rate', text_of(own), 'answers',
  table.concat(entries, ' '))
if advised then
  redis.call('HSET', key, 'advised_until_us', text_of(advised), 'advised_second', text_of(at), 'asking', text_of(asking))
elseif found[5] then
  redis.call('HDEL', key, 'advised_until_us', 'advised_second', 'asking')
end
if not blocked and found[6] then redis.call('HDEL', key, 'blocked_until') end
local until_new = math.max(now, blocked and blocked + 360000 or 0, advised and math.ceil(advised / 1000) or 0)
redis.call('PEXPIRE', key, text_of(until_new - now + 60000))
return answer
