-- The holder of the token knows of these tasks alone. What else it holds, by a claim whose answer it never got,
-- goes back to the head of its line. Walks all leases: for the moment after Redis was away.
-- ARGV[2] token   ARGV[3..] ids.
-- Returns how many were given back.
local known, returned = {}, 0
for i = 3, #ARGV do known[ARGV[i]] = true end
local leases = call('ZRANGE', LEASES, 0, -1)
for i = #leases, 1, -1 do
  local id = leases[i]
  local job = call('HGET', JOBS, id)
  if not known[id] and held(job, ARGV[2]) == MINE then
    unlease(id, job)
    put_back(id, line_of(job), 0)
    returned = returned + 1
  end
end
settle()
wake_if_ready()
return returned
