-- Takes up to `free` ready tasks under a lease and reserves room for each in a lane.
-- Of ten turns six look at CRITICAL first, three at DEFAULT, one at LOW, then at the other two. Within a
-- priority the pools take turns, within a pool the callers; a pool none of whose lanes has room is passed.
-- ARGV[2] token   ARGV[3] free: most tasks to take   ARGV[4] lease_ms   ARGV[5] most dead entries to skip
-- ARGV[6] most delayed tasks to promote   ARGV[7..]: pool, number of lanes, then lane, limit for each; repeated.
-- Returns {next_due_ms, id, lane, id, lane, ...}. next_due_ms: when to come back for a delayed task, 0 when
-- this call stopped early, -1 when nothing waits for a time.
local token, free, lease_ms = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local skips_left = tonumber(ARGV[5])
local WHEEL = { 'c', 'c', 'd', 'c', 'c', 'd', 'c', 'd', 'c', 'l' }
local ORDER = { c = { 'c', 'd', 'l' }, d = { 'd', 'c', 'l' }, l = { 'l', 'c', 'd' } }

local now = now_ms()
local next_due_ms = promote_due(now, tonumber(ARGV[6]))

local lanes, room = {}, {}
do
  local i = 7
  while i <= #ARGV do
    local own = {}
    for n = 1, tonumber(ARGV[i + 1]) do
      local lane, limit = ARGV[i + 2 * n], tonumber(ARGV[i + 2 * n + 1])
      own[n] = lane
      room[lane] = room[lane] or limit - tonumber(call('HGET', LOAD, lane) or 0)
    end
    lanes[ARGV[i]] = own
    i = i + 2 + 2 * #own
  end
end

local function lane_with_room(pool)
  for _, lane in ipairs(lanes[pool] or {}) do
    if room[lane] > 0 then return lane end
  end
end

-- The next live id of the pool at this priority, its line, and whether the caller goes on: to the ring's tail.
-- A caller whose line is used up leaves the ring.
local function pop(pool, priority)
  local ring = PREFIX .. 'ring:' .. pool .. priority
  while skips_left > 0 do
    local caller = call('LPOP', ring)
    if not caller then return end
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
local reply, taken, barren = { -1 }, 0, {}
while taken < free and skips_left > 0 do
  local id, line, lane
  for _, priority in ipairs(ORDER[WHEEL[turn % 10 + 1]]) do
    if not barren[priority] and not id then
      id, line, lane = take(priority)
      -- Room only shrinks within a call: what had none will have none.
      barren[priority] = not id
    end
  end
  if not id then break end
  lease(id, line, token, lane, now + lease_ms)
  room[lane] = room[lane] - 1
  turn, taken = turn + 1, taken + 1
  reply[#reply + 1], reply[#reply + 2] = id, lane
end
if taken > 0 then call('SET', TURN, turn % 10) end
if taken == free then wake_if_ready() end

reply[1] = skips_left > 0 and next_due_ms or 0
return reply
