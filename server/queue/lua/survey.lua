-- Counts the queue and walks its lines; changes nothing. An id that is ready but in no line would never be
-- claimed: that shows as more jobs than places.
-- ARGV[2] most lines to walk.
-- Returns {jobs, leases, delayed, sum of the lanes' load, sum of the callers' load, entries in lines (dead ones
-- included), lines walked, 1 if these were all lines or else 0, the smallest live id at the head of a line or ''}.
local most, entries, lines, complete, oldest = tonumber(ARGV[2]), 0, 0, 1, ''
local seen = {}
local function walk(line)
  if lines >= most then
    complete = 0
  elseif not seen[line] then
    seen[line] = true
    local list = PREFIX .. 'q:' .. line
    local id = call('LINDEX', list, 0)
    lines, entries = lines + 1, entries + call('LLEN', list)
    if id and (oldest == '' or id < oldest) and call('HGET', JOBS, id) == 'r' .. line then oldest = id end
  end
end
for priority, ring in pairs(RINGS) do
  for _, pool in ipairs(call('LRANGE', ring, 0, -1)) do
    for _, caller in ipairs(call('LRANGE', PREFIX .. 'ring:' .. pool .. priority, 0, most - lines)) do
      walk(pool .. priority .. caller)
    end
  end
end
for _, caller in ipairs(call('ZRANGE', PARKED, 0, most - lines)) do
  for _, ring in ipairs(call('LRANGE', PREFIX .. 'park:' .. caller, 0, -1)) do walk(ring .. caller) end
end
local load, fields = { l = 0, c = 0 }, call('HGETALL', LOAD)
for i = 1, #fields, 2 do
  local kind = fields[i]:sub(1, 1)
  load[kind] = (load[kind] or 0) + tonumber(fields[i + 1])
end
return {
  call('HLEN', JOBS), call('ZCARD', LEASES), call('ZCARD', DELAYED), load.l, load.c, entries, lines, complete,
  oldest,
}
