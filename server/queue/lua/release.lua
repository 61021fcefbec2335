-- The holder gives tasks back: to the head of their line, or delayed. One that is not in the queue is made again.
-- ARGV[2] token   ARGV[3..]: id, line, delay_ms (0 = now), repeated.
-- Returns one code per id: 1 given back, 0 not this holder's and unchanged, -1 made again.
local found = {}
for i = 3, #ARGV, 3 do
  local id = ARGV[i]
  local job = call('HGET', JOBS, id)
  local whose = held(job, ARGV[2])
  if whose == MINE then unlease(id, job) end
  if whose ~= NOT_MINE then put_back(id, ARGV[i + 1], tonumber(ARGV[i + 2])) end
  found[#found + 1] = whose
end
settle()
wake_if_ready()
return found
