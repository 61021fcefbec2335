-- What time has brought: due delayed tasks become ready, and expired leases are listed for a verdict.
-- ARGV[2] most tasks to promote   ARGV[3] most leases to list.
-- Returns {id, jobs string, ...} of expired leases, the longest expired first.
local now, expired = now_ms(), {}
promote_due(now, tonumber(ARGV[2]))
for _, id in ipairs(call('ZRANGEBYSCORE', LEASES, '-inf', now, 'LIMIT', 0, tonumber(ARGV[3]))) do
  local job = call('HGET', JOBS, id)
  if job and flag_of(job) == 'l' then
    expired[#expired + 1], expired[#expired + 2] = id, job
  else
    -- Only damage from outside leaves a lease without its task; the compare brings the task back.
    call('ZREM', LEASES, id)
  end
end
wake_if_ready()
return expired
