-- Stands before every script of this folder: binds the keys, knows the layout of a `jobs` string, and holds
-- the steps that scripts share. Each step is a whole transition: an id is in one place, and a lane's load
-- changes together with the lease that holds it. All values are checked by the caller, and no step can fail
-- half-way, so a script never leaves half a change.
--
-- KEYS, the same for every script (keys.SCRIPT_KEYS):
--   1 jobs HASH   2 leases ZSET   3 delayed ZSET   4 load HASH   5 turn STRING   6 wake LIST   7 swept STRING
--   8 ring:c LIST   9 ring:d LIST   10 ring:l LIST
-- ARGV[1], the same for every script: the prefix of all keys.
--
-- The only keys built inside are `ring:<pool><priority>` and `q:<line>`: which of them a claim touches depends
-- on what the rings hold. They carry the prefix, so its hash tag keeps them in the slot of the ten keys.
--
-- Times are Redis's own (TIME); what comes in and goes out are durations, in milliseconds.
local JOBS, LEASES, DELAYED, LOAD = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local TURN, WAKE, SWEPT = KEYS[5], KEYS[6], KEYS[7]
local RINGS = { c = KEYS[8], d = KEYS[9], l = KEYS[10] }
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
local function token_of(job) return job:sub(16, 23) end
local function lane_of(job) return job:sub(24) end

-- Whose entry this is, as seen by the holder of `token`.
local function held(job, token)
  if not job then return MISSING end
  if flag_of(job) == 'l' and token_of(job) == token then return MINE end
  return NOT_MINE
end

-- Ready, at one end of its line. A line joins its rings when it stops being empty.
local function line_up(id, line, at_head)
  call('HSET', JOBS, id, 'r' .. line)
  if call(at_head and 'LPUSH' or 'RPUSH', PREFIX .. 'q:' .. line, id) == 1
    and call('RPUSH', PREFIX .. 'ring:' .. line:sub(1, 3), line:sub(4)) == 1 then
    call('RPUSH', RINGS[line:sub(3, 3)], line:sub(1, 2))
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

local function lease(id, line, token, lane, lease_end_ms)
  call('HSET', JOBS, id, 'l' .. line .. token .. lane)
  call('ZADD', LEASES, lease_end_ms, id)
  call('HINCRBY', LOAD, lane, 1)
end

-- The lease and its room are gone; `jobs` is left to the caller, who knows what becomes of the id.
local function unlease(id, job)
  call('ZREM', LEASES, id)
  if call('HINCRBY', LOAD, lane_of(job), -1) <= 0 then call('HDEL', LOAD, lane_of(job)) end
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

local function announce(ids)
  if #ids > 0 then call('PUBLISH', PREFIX .. 'events', table.concat(ids, ' ')) end
end
