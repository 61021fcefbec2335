-- The holder learned from the store that another worker lives and has the task: the lease becomes that worker's.
-- ARGV[2] token   ARGV[3] the owner's token   ARGV[4] lease_ms   ARGV[5] id.
-- Returns 1 handed over, 0 not this holder's and unchanged, -1 not in the queue.
local owner, id = ARGV[3], ARGV[5]
local job = call('HGET', JOBS, id)
local whose = held(job, ARGV[2])
if whose == MINE then
  call('HSET', JOBS, id, 'l' .. line_of(job) .. owner .. lane_of(job))
  call('ZADD', LEASES, now_ms() + tonumber(ARGV[4]), id)
end
return whose
