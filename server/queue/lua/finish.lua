-- The holder reports that the store calls these tasks over: takes them out and frees their room. A token that
-- does not hold the lease changes nothing. Whoever waits for the tasks is told in either case.
-- ARGV[2] token   ARGV[3..] ids.
-- Returns one code per id: 1 taken out, 0 not this holder's, -1 not in the queue.
local found, ids = {}, {}
for i = 3, #ARGV do
  local id = ARGV[i]
  local job = call('HGET', JOBS, id)
  found[#found + 1], ids[#ids + 1] = held(job, ARGV[2]), id
  if found[#found] == MINE then
    unlease(id, job)
    call('HDEL', JOBS, id)
  end
end
announce(ids)
settle()
wake_if_ready()
return found
