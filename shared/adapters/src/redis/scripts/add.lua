-- Adds to sums, each batch once. ARGV: who adds, the number of its batch, then
-- fields and what to add, in pairs; what has a point is added as a fraction. What is over is
-- how long the sums then live, in ms. The
-- mark is written first: a field that cannot be added to is lost, and nothing is
-- added twice. A process leaves its mark behind when it ends. So every batch looks at
-- ten fields by chance and removes the marks that are a day old: a process makes one
-- mark and sends at least one batch, and old marks stay a tenth of the fields.
local key, mark, batch = KEYS[1], '_batch:' .. ARGV[1], whole(ARGV[2], 'batch')
local last = tonumber(string.match(redis.call('HGET', key, mark) or '', '^%d+'))
if last and last >= batch then return 0 end
local finish = #ARGV - (#ARGV % 2)
local ttl = finish < #ARGV and whole(ARGV[#ARGV], 'ttl')
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
local seen, old = redis.call('HRANDFIELD', key, 10, 'WITHVALUES'), {}
for i = 1, #seen - 1, 2 do
  local at = tonumber(string.match(seen[i + 1], '^%d+ (%d+)$'))
  if string.sub(seen[i], 1, 7) == '_batch:' and (not at or now - at > 86400000) then old[#old + 1] = seen[i] end
end
if #old > 0 then redis.call('HDEL', key, unpack(old)) end
if ttl then redis.call('PEXPIRE', key, ttl) end
return refused or 1
