-- domain::rate_rules::block. ARGV: token, how long nothing is granted in ms, answers
-- remembered. Answers until when.
local key, token = KEYS[1], ARGV[1]
local wait, remembered = whole(ARGV[2], 'wait'), whole(ARGV[3], 'remembered')
local found = redis.call('HMGET', key, 'blocked_until', 'advised_until_us', 'answers')
local blocked, advised = tonumber(found[1]), tonumber(found[2])
local entries = {}
for entry in string.gmatch(found[3] or '', '%S+') do
  local earlier, answer = string.match(entry, '^(%S+)=0,(%d+)')
  if earlier == token then return {tonumber(answer)} end
  entries[#entries + 1] = entry
end
local before = blocked
if blocked and blocked > now + 7200000 then blocked = nil end
blocked = math.max(blocked or 0, now + math.min(wait, 3600000))
entries[#entries + 1] = token .. '=0,' .. text_of(blocked)
if #entries > remembered then table.remove(entries, 1) end
redis.call('HSET', key, 'answers', table.concat(entries, ' '))
if blocked ~= before then
  -- It begins with single calls, not with a burst.
  redis.call('HSET', key, 'blocked_until', text_of(blocked), 'calls', '0', 'counted_at', text_of(blocked))
end
local until_new = math.max(blocked + 360000, advised and math.ceil(advised / 1000) or 0)
redis.call('PEXPIRE', key, text_of(until_new - now + 60000))
return {blocked}
