-- Replaces the sweep's marker if it is still the one that was read.
-- ARGV[2] the marker as read ('' = missing)   ARGV[3] the new one.
-- Returns 1 replaced, 0 another sweep, or a flush, was faster.
if (call('GET', SWEPT) or '') ~= ARGV[2] then return 0 end
call('SET', SWEPT, ARGV[3])
return 1
