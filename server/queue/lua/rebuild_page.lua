-- Adds a page of the store's live tasks and moves the marker past it, in one step and only if the marker is
-- still the one that was read before the store was: a flush in between takes the marker along, so no page
-- is counted that is not there. A task that is in the queue stays as it is.
-- ARGV[2] the marker as read   ARGV[3] the new one   ARGV[4] lease_ms
-- ARGV[5..]: id, line, flag, argument, repeated.
--   flag 'r': ready; argument unused   flag 'd': argument = delay_ms   flag 'l': argument = the owner's token
-- Returns how many were missing and are there now, or -1 when the marker is another one and nothing was done.
if (call('GET', SWEPT) or '') ~= ARGV[2] then return -1 end
local added, lease_end_ms = 0, now_ms() + tonumber(ARGV[4])
for i = 5, #ARGV, 4 do
  local id, line, flag, argument = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  if call('HEXISTS', JOBS, id) == 0 then
    if flag == 'r' then
      line_up(id, line, false)
    elseif flag == 'd' then
      put_back(id, line, tonumber(argument))
    else
      lease(id, line, argument, '', lease_end_ms)
    end
    added = added + 1
  end
end
call('SET', SWEPT, ARGV[3])
settle()
wake_if_ready()
return added
