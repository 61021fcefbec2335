-- The holder prolongs its leases. One that is not in the queue is made again, and a lease that was made
-- without knowing its lane (by a rebuild) takes its room in the lane the holder uses.
-- ARGV[2] token   ARGV[3] lease_ms   ARGV[4..]: id, line, lane ('' = not known), repeated.
-- Returns one code per id: 1 prolonged, 0 not this holder's and unchanged, -1 made again.
local token, found = ARGV[2], {}
local lease_end_ms = now_ms() + tonumber(ARGV[3])
for i = 4, #ARGV, 3 do
  local id, line, lane = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local job = call('HGET', JOBS, id)
  local whose = held(job, token)
  if whose == MINE then
    call('ZADD', LEASES, lease_end_ms, id)
    if lane ~= '' and lane ~= lane_of(job) then
      count('l' .. lane_of(job), -1)
      count('l' .. lane, 1)
      call('HSET', JOBS, id, 'l' .. line_of(job) .. token .. lane)
    end
  elseif whose == MISSING then
    lease(id, line, token, lane, lease_end_ms)
  end
  found[#found + 1] = whose
end
settle()
return found
