-- The store says these tasks are over: takes them out whoever holds them, and tells who waits for them.
-- ARGV[2..] ids.
-- Returns how many were in the queue.
local removed, ids = 0, {}
for i = 2, #ARGV do
  local id = ARGV[i]
  local job = call('HGET', JOBS, id)
  ids[#ids + 1] = id
  if job then
    if flag_of(job) == 'l' then unlease(id, job) else call('ZREM', DELAYED, id) end
    call('HDEL', JOBS, id)
    if flag_of(job) == 'r' then trim(line_of(job)) end
    removed = removed + 1
  end
end
announce(ids)
settle()
wake_if_ready()
return removed
