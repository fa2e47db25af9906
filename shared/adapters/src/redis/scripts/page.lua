-- The members of an index that follow a place, in the order of score and member,
-- with their scores. ARGV: 'newest' to go towards older ones or 'oldest' to go
-- towards newer ones, score and member of the place (or '' and '' to begin), how
-- many. What is found is in ascending order.
local key, newest, score, member = KEYS[1], ARGV[1] == 'newest', ARGV[2], ARGV[3]
local count = whole(ARGV[4], 'count')
-- Byte by byte, as Redis sorts: Lua would ask the server's locale.
local function precedes(a, b)
  for i = 1, math.min(#a, #b) do
    if a:byte(i) ~= b:byte(i) then return a:byte(i) < b:byte(i) end
  end
  return #a < #b
end
local first, last = 0, redis.call('ZCARD', key) - 1
if score ~= '' then
  whole(score, 'score')
  local low = redis.call('ZCOUNT', key, '-inf', '(' .. score)
  local ties = redis.call('ZCOUNT', key, score, score)
  local from, to = low, low + ties
  while from < to do
    local middle = math.floor((from + to) / 2)
    if precedes(redis.call('ZRANGE', key, middle, middle)[1], member) then from = middle + 1 else to = middle end
  end
  if newest then
    last = from - 1
  else
    first = from
    if from < low + ties and redis.call('ZRANGE', key, from, from)[1] == member then first = from + 1 end
  end
end
if newest then first = math.max(first, last - count + 1) else last = math.min(last, first + count - 1) end
if last < first then return {} end
return redis.call('ZRANGE', key, first, last, 'WITHSCORES')
