-- Stands before every script of this folder: binds the keys, knows the layout of a `jobs` string, and holds
-- the steps that scripts share. Each step is a whole transition: an id is in one place. A script that adds or
-- removes leases ends with `settle`, which brings `leases` and the load of lanes and callers up to date. All
-- values are checked by the caller, and no step can fail half-way, so a script never leaves half a change.
--
-- KEYS, the same for every script (keys.SCRIPT_KEYS):
--   1 jobs HASH   2 leases ZSET   3 delayed ZSET   4 load HASH   5 turn STRING   6 wake LIST   7 swept STRING
--   8 ring:c LIST   9 ring:d LIST   10 ring:l LIST   11 parked ZSET   12 sweeper STRING
-- ARGV[1], the same for every script: the prefix of all keys.
--
-- The only keys built inside are `ring:<pool><priority>`, `q:<line>` and `park:<caller>`: which of them a claim
-- touches depends on what the rings hold. They carry the prefix, so its hash tag keeps them in the slot of the
-- twelve keys.
--
-- A line that is not empty stands in one of two places: its caller in `ring:<pool><priority>`, or, when a claim
-- found the caller at its cap, `<pool><priority>` in `park:<caller>`. Only a claim empties a line, and only one
-- that stands in its ring: so a line that is parked holds something, and no push to it lists it again.
-- Whenever a lease of the caller ends, all its parked lines go back to their rings.
--
-- `load` counts leases twice over, in fields that cannot be taken for each other: l<lane> and c<caller>.
--
-- Times are Redis's own (TIME); what comes in and goes out are durations, in milliseconds.
local JOBS, LEASES, DELAYED, LOAD = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local TURN, WAKE, SWEPT = KEYS[5], KEYS[6], KEYS[7]
local RINGS = { c = KEYS[8], d = KEYS[9], l = KEYS[10] }
local PARKED, SWEEPER = KEYS[11], KEYS[12]
local PREFIX = ARGV[1]
local call = redis.call

-- What a holder's script found; the codes of scripts.Held.
local MINE, NOT_MINE, MISSING = 1, 0, -1

local function now_ms()
  local time = call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- <flag 1><pool 2><priority 1><caller 11>[<token 8><lane>]
local function flag_of(job) return job:sub(1, 1) end
local function line_of(job) return job:sub(2, 15) end
local function caller_of(job) return job:sub(5, 15) end
local function token_of(job) return job:sub(16, 23) end
local function lane_of(job) return job:sub(24) end

-- Whose entry this is, as seen by the holder of `token`.
local function held(job, token)
  if not job then return MISSING end
  if flag_of(job) == 'l' and token_of(job) == token then return MINE end
  return NOT_MINE
end

-- The caller at the tail of a ring (<pool><priority>), whose pool joins those of its priority.
local function join(ring, caller)
  if call('RPUSH', PREFIX .. 'ring:' .. ring, caller) == 1 then
    call('RPUSH', RINGS[ring:sub(3)], ring:sub(1, 2))
  end
end

-- The caller, just taken from this ring, is at its cap.
local function park(ring, caller, now)
  call('RPUSH', PREFIX .. 'park:' .. caller, ring)
  call('ZADD', PARKED, now, caller)
end

-- Back to the tails of its rings, if the caller is parked; one that is still at its cap is parked by a claim.
local function unpark(caller)
  local place = PREFIX .. 'park:' .. caller
  local rings = call('LRANGE', place, 0, -1)
  if #rings > 0 then
    call('DEL', place)
    call('ZREM', PARKED, caller)
    for _, ring in ipairs(rings) do join(ring, caller) end
  end
end

-- Ready, at one end of its line. A line joins its ring when it stops being empty.
local function line_up(id, line, at_head)
  call('HSET', JOBS, id, 'r' .. line)
  if call(at_head and 'LPUSH' or 'RPUSH', PREFIX .. 'q:' .. line, id) == 1 then
    join(line:sub(1, 3), line:sub(4))
  end
end

-- Takes dead entries off the head of a line: where nobody claims, nobody else would. Two for each that dies are
-- enough for it not to grow; the last one stays, for only a claim may empty a line.
local function trim(line)
  local list = PREFIX .. 'q:' .. line
  for _ = 1, 2 do
    local ids = call('LRANGE', list, 0, 1)
    if #ids < 2 or call('HGET', JOBS, ids[1]) == 'r' .. line then return end
    call('LPOP', list)
  end
end

-- Waiting again: at the head of its line, or delayed.
local function put_back(id, line, delay_ms)
  if delay_ms > 0 then
    call('HSET', JOBS, id, 'd' .. line)
    call('ZADD', DELAYED, now_ms() + delay_ms, id)
  else
    line_up(id, line, true)
  end
end

-- Leases added less leases removed since the last `settle`, by field of `load`, and the fields in order.
local change_of, counted, unleased = {}, {}, {}
local function count(field, by)
  if not change_of[field] then counted[#counted + 1] = field end
  change_of[field] = (change_of[field] or 0) + by
end

local function lease(id, line, token, lane, lease_end_ms)
  call('HSET', JOBS, id, 'l' .. line .. token .. lane)
  call('ZADD', LEASES, lease_end_ms, id)
  count('l' .. lane, 1)
  count('c' .. line:sub(4), 1)
end

-- The lease and its room are given up; `jobs` is left to the script, which knows what becomes of the id.
local function unlease(id, job)
  unleased[#unleased + 1] = id
  count('l' .. lane_of(job), -1)
  count('c' .. caller_of(job), -1)
end

-- Writes what was counted, in a few commands for all leases. A caller with fewer leases is unparked.
local function settle()
  if #counted == 0 then return end
  if #unleased > 0 then call('ZREM', LEASES, unpack(unleased)) end
  local set, gone, callers = {}, {}, {}
  local before = call('HMGET', LOAD, unpack(counted))
  for i, field in ipairs(counted) do
    local change = change_of[field]
    local leases = tonumber(before[i] or 0) + change
    if leases <= 0 then
      gone[#gone + 1] = field
    elseif change ~= 0 then
      set[#set + 1] = field
      set[#set + 1] = leases
    end
    if change < 0 and field:sub(1, 1) == 'c' then callers[#callers + 1] = field:sub(2) end
  end
  if #set > 0 then call('HSET', LOAD, unpack(set)) end
  if #gone > 0 then call('HDEL', LOAD, unpack(gone)) end
  if #callers > 0 and call('EXISTS', PARKED) == 1 then
    for _, caller in ipairs(callers) do unpark(caller) end
  end
  change_of, counted, unleased = {}, {}, {}
end

-- Tells those who wait for the tasks.
local function announce(ids)
  if #ids > 0 then call('PUBLISH', PREFIX .. 'events', table.concat(ids, ' ')) end
end

-- ARGV[first] to ARGV[last] are ids that the store calls over, as the holder of `token` reports: those it holds
-- leave the queue and free their room. Whoever waits for them is told in either case. One code per id.
local function take_out(token, first, last)
  local found, ids = {}, {}
  for i = first, last do
    local id = ARGV[i]
    local job = call('HGET', JOBS, id)
    found[#found + 1], ids[#ids + 1] = held(job, token), id
    if found[#found] == MINE then
      unlease(id, job)
      call('HDEL', JOBS, id)
    end
  end
  announce(ids)
  settle()
  return found
end

-- Due delayed tasks go to the head of their lines, the earliest first; at most `limit` of them.
-- Returns in how many ms the next one is due, -1 when none is delayed.
local function promote_due(now, limit)
  local first = call('ZRANGE', DELAYED, 0, 0, 'WITHSCORES')
  if first[2] and tonumber(first[2]) <= now then
    local due = call('ZRANGEBYSCORE', DELAYED, '-inf', now, 'LIMIT', 0, limit)
    for i = #due, 1, -1 do
      local job = call('HGET', JOBS, due[i])
      call('ZREM', DELAYED, due[i])
      if job and flag_of(job) == 'd' then line_up(due[i], line_of(job), true) end
    end
    first = call('ZRANGE', DELAYED, 0, 0, 'WITHSCORES')
  end
  return first[2] and math.max(0, tonumber(first[2]) - now) or -1
end

-- One token is enough: while it lies there nobody waits, and the worker that takes it wakes the next one
-- when it leaves work behind (claim.lua).
local function wake_if_ready()
  if call('LLEN', WAKE) == 0 and call('EXISTS', RINGS.c, RINGS.d, RINGS.l) > 0 then
    call('RPUSH', WAKE, '1')
  end
end
