-- Put before every script. Validate first, write last: Lua does not roll back.
local function whole(text, what)
  local n = tonumber(text)
  if not n or n < 0 or n ~= math.floor(n) or n > 9007199254740991 then
    error(what .. ' is not a whole number')
  end
  return n
end
local function text_of(n) return string.format('%.0f', n) end
-- A hash that is no record. Deleting nothing would count as a write, and what has
-- written once may go on writing on a server whose memory is full.
local function clear(key)
  if redis.call('EXISTS', key) == 1 then redis.call('DEL', key) end
end
-- Whether what was accepted then is erased, by the mark of an erasure if there is one.
local function erases(mark, accepted) return mark and accepted <= tonumber(mark) end
-- The life of a record in ms: a mark of an erasure is kept as long as it was to live.
local function lasting(key, mark, ttl)
  return mark and math.max(ttl, redis.call('PTTL', key)) or ttl
end
-- What a new record begins with comes as JSON, names and values in turn: it is one argument,
-- and most calls find a record and need none of it.
local function new_fields(json)
  local fields = cjson.decode(json)
  if type(fields) ~= 'table' or #fields == 0 then error('a new record has fields') end
  return fields
end
-- A removed record of an unfinished delivery is seen again: its view's fields are
-- among the new record's.
local function show(key, json)
  local fields = new_fields(json)
  for i = 1, #fields - 1, 2 do
    if fields[i] == 'webhook_url' or fields[i] == 'event_type' then redis.call('HSET', key, fields[i], fields[i + 1]) end
  end
end
