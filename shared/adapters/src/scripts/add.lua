-- Adds to sums, each batch once. ARGV: who adds, the number of its batch, then
-- fields and what to add, in pairs; what has a point is added as a fraction.
local key, mark, batch = KEYS[1], '_batch:' .. ARGV[1], whole(ARGV[2], 'batch')
local last = redis.call('HGET', key, mark)
if last and tonumber(string.match(last, '^%d+')) >= batch then return 0 end
local function pairs_end() return #ARGV - (#ARGV % 2) end
for i = 3, pairs_end(), 2 do
  if not tonumber(ARGV[i + 1]) then error('what to add is no number') end
end
for i = 3, pairs_end(), 2 do
  local how = string.find(ARGV[i + 1], '.', 1, true) and 'HINCRBYFLOAT' or 'HINCRBY'
  redis.call(how, key, ARGV[i], ARGV[i + 1])
end
redis.call('HSET', key, mark, text_of(batch) .. ' ' .. text_of(now))
return 1
