-- Put before every script. Validate first, write last: Lua does not roll back.
local function whole(text, what)
  local n = tonumber(text)
  if not n or n < 0 or n ~= math.floor(n) or n > 9007199254740991 then
    error(what .. ' is not a whole number')
  end
  return n
end
local function text_of(n) return string.format('%.0f', n) end
