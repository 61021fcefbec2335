-- Acts on expired leases after the store was asked. Each is looked at again: one that was renewed, finished or
-- handed over meanwhile is left alone.
-- ARGV[2] lease_ms   ARGV[3..]: id, token it was seen with, verdict, argument, repeated.
--   verdict 'r': give back; argument = delay_ms, 0 = to the head of its line
--   verdict 'l': its owner lives; argument = the owner's token, which gets the lease
--   verdict 'x': the task is over: take it out; argument unused
-- Returns how many were acted on.
local now, acted, over = now_ms(), 0, {}
for i = 3, #ARGV, 4 do
  local id, token, verdict, argument = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local job = call('HGET', JOBS, id)
  local lease_end_ms = tonumber(call('ZSCORE', LEASES, id) or '')
  if held(job, token) == MINE and lease_end_ms and lease_end_ms <= now then
    if verdict == 'l' then
      call('HSET', JOBS, id, 'l' .. line_of(job) .. argument .. lane_of(job))
      call('ZADD', LEASES, now + tonumber(ARGV[2]), id)
    else
      unlease(id, job)
      if verdict == 'r' then
        put_back(id, line_of(job), tonumber(argument))
      else
        call('HDEL', JOBS, id)
        over[#over + 1] = id
      end
    end
    acted = acted + 1
  end
end
announce(over)
settle()
wake_if_ready()
return acted
