-- The holder reports that the store calls these tasks over: takes them out and frees their room. A token that
-- does not hold the lease changes nothing. Whoever waits for the tasks is told in either case.
-- ARGV[2] token   ARGV[3..] ids.
-- Returns one code per id: 1 taken out, 0 not this holder's, -1 not in the queue.
local found = take_out(ARGV[2], 3, #ARGV)
wake_if_ready()
return found
