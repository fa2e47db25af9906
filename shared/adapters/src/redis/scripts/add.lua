-- Adds to sums, each batch once. ARGV: who adds, the number of its batch, then
-- fields and what to add, in pairs; what has a point is added as a fraction. The
-- mark is written first: a field that cannot be added to is lost, and nothing is
-- added twice.
local key, mark, batch = KEYS[1], '_batch:' .. ARGV[1], whole(ARGV[2], 'batch')
local last = tonumber(string.match(redis.call('HGET', key, mark) or '', '^%d+'))
if last and last >= batch then return 0 end
local finish = #ARGV - (#ARGV % 2)
for i = 3, finish, 2 do
  if not tonumber(ARGV[i + 1]) then error('what to add is no number') end
end
redis.call('HSET', key, mark, text_of(batch) .. ' ' .. text_of(now))
local refused
for i = 3, finish, 2 do
  local how = string.find(ARGV[i + 1], '.', 1, true) and 'HINCRBYFLOAT' or 'HINCRBY'
  local reply = redis.pcall(how, key, ARGV[i], ARGV[i + 1])
  if type(reply) == 'table' and reply.err then refused = ARGV[i] end
end
return refused or 1
