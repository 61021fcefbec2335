-- Takes out what the caller has finished, then takes up to `free` ready tasks under a lease and reserves room for
-- each in a lane.
-- Of ten turns six look at CRITICAL first, three at DEFAULT, one at LOW, then at the other two. Within a
-- priority the pools take turns, within a pool the callers; a pool none of whose lanes has room is passed, and a
-- caller at its cap is parked until one of its leases ends or the cap rises.
-- ARGV[2] token   ARGV[3] free: most tasks to take   ARGV[4] lease_ms
-- ARGV[5] cap: most leases that one caller may hold, over all pools and priorities; 0 = any number
-- ARGV[6] most dead entries to skip and callers to park   ARGV[7] most delayed tasks to promote
-- ARGV[8] most parked callers to look at   ARGV[9] number of tasks that are over, by `finish`, and their ids
-- ARGV[next..]: pool, most tasks to take of it, number of lanes, then lane, limit for each; repeated.
-- Returns {next_due_ms, id, lane, pool, id, lane, pool, ...}. next_due_ms: when to come back for a delayed task,
-- 0 when this call stopped early, -1 when nothing waits for a time.
local token, free, lease_ms, cap = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local skips_left = tonumber(ARGV[6])
local WHEEL = { 'c', 'c', 'd', 'c', 'c', 'd', 'c', 'd', 'c', 'l' }
local ORDER = { c = { 'c', 'd', 'l' }, d = { 'd', 'c', 'l' }, l = { 'l', 'c', 'd' } }

local pools_from = 10 + tonumber(ARGV[9])
take_out(token, 10, pools_from - 1)

local now = now_ms()
local next_due_ms = promote_due(now, tonumber(ARGV[7]))

local lanes, room, left = {}, {}, {}
do
  local i = pools_from
  while i <= #ARGV do
    local own = {}
    for n = 1, tonumber(ARGV[i + 2]) do
      local lane, limit = ARGV[i + 1 + 2 * n], tonumber(ARGV[i + 2 + 2 * n])
      own[n] = lane
      room[lane] = room[lane] or limit - tonumber(call('HGET', LOAD, 'l' .. lane) or 0)
    end
    lanes[ARGV[i]], left[ARGV[i]] = own, tonumber(ARGV[i + 1])
    i = i + 3 + 2 * #own
  end
end

local function lane_with_room(pool)
  if not left[pool] or left[pool] <= 0 then return end
  for _, lane in ipairs(lanes[pool]) do
    if room[lane] > 0 then return lane end
  end
end

local in_flight = {}
local function at_cap(caller)
  if cap == 0 then return false end
  in_flight[caller] = in_flight[caller] or tonumber(call('HGET', LOAD, 'c' .. caller) or 0)
  return in_flight[caller] >= cap
end

-- Callers that are below the cap without an end of a lease: the cap has risen. Those not looked at for longest.
for _, caller in ipairs(call('ZRANGE', PARKED, 0, tonumber(ARGV[8]) - 1)) do
  if at_cap(caller) then
    call('ZADD', PARKED, now, caller)
  else
    unpark(caller)
    call('ZREM', PARKED, caller)
  end
end

-- The next live id of the pool at this priority, its line, and whether the caller goes on: to the ring's tail.
-- A caller whose line is used up leaves the ring, one at its cap is parked.
local function pop(pool, priority)
  local ring = PREFIX .. 'ring:' .. pool .. priority
  while skips_left > 0 do
    local caller = call('LPOP', ring)
    if not caller then return end
    if at_cap(caller) then
      park(pool .. priority, caller, now)
    else
      local line = pool .. priority .. caller
      local list = PREFIX .. 'q:' .. line
      local id = call('LPOP', list)
      while id and skips_left > 0 and call('HGET', JOBS, id) ~= 'r' .. line do
        skips_left = skips_left - 1
        id = skips_left > 0 and call('LPOP', list)
      end
      local goes_on = call('EXISTS', list) == 1
      if goes_on then call('RPUSH', ring, caller) end
      if id then return id, line, goes_on end
    end
    skips_left = skips_left - 1
  end
end

-- The next id at this priority, its line and the lane it may use; nothing when no pool has both.
local function take(priority)
  local ring = RINGS[priority]
  local pools = call('LLEN', ring)
  for _ = 1, pools do
    local pool = call('LINDEX', ring, 0)
    local lane = lane_with_room(pool)
    local id, line, goes_on
    if lane then id, line, goes_on = pop(pool, priority) end
    if lane and not goes_on and call('EXISTS', PREFIX .. 'ring:' .. pool .. priority) == 0 then
      call('LPOP', ring)
    elseif pools > 1 then
      call('LMOVE', ring, ring, 'LEFT', 'RIGHT')
    end
    if id then return id, line, lane end
    if skips_left <= 0 then return end
  end
end

local turn = tonumber(call('GET', TURN) or 0)
local reply, taken, barren, used_up = { -1 }, 0, {}, false
while taken < free and skips_left > 0 do
  local id, line, lane
  for _, priority in ipairs(ORDER[WHEEL[turn % 10 + 1]]) do
    if not barren[priority] and not id then
      id, line, lane = take(priority)
      -- Room only shrinks within a call, callers only come closer to their cap: what had none will have none.
      barren[priority] = not id
    end
  end
  if not id then break end
  lease(id, line, token, lane, now + lease_ms)
  local pool, caller = line:sub(1, 2), line:sub(4)
  room[lane], left[pool] = room[lane] - 1, left[pool] - 1
  if cap > 0 then in_flight[caller] = in_flight[caller] + 1 end
  used_up = used_up or left[pool] == 0
  turn, taken = turn + 1, taken + 1
  reply[#reply + 1] = id
  reply[#reply + 1] = lane
  reply[#reply + 1] = pool
end
if taken > 0 then call('SET', TURN, turn % 10) end
settle()
-- What this worker leaves for want of slots, or because it does not serve it, another may have slots for.
if taken == free or used_up or pools_from > 10 then wake_if_ready() end

reply[1] = skips_left > 0 and next_due_ms or 0
return reply
