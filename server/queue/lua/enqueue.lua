-- Puts tasks in line; one that is in the queue already stays as it is.
-- ARGV[2..]: id, line, delay_ms (0 = ready), repeated.
-- Returns how many were added.
local added = 0
for i = 2, #ARGV, 3 do
  local id, line, delay_ms = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
  if call('HEXISTS', JOBS, id) == 0 then
    if delay_ms > 0 then put_back(id, line, delay_ms) else line_up(id, line, false) end
    added = added + 1
  end
end
wake_if_ready()
return added
