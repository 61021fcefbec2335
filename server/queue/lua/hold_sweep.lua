-- Takes or prolongs the walk over the store for one holder, and says what a walk goes by.
-- ARGV[2] holder   ARGV[3] ttl_ms
-- Returns {1, the marker ('' = missing), the identity of this Redis}, or {0} when another one holds it.
if (call('GET', SWEEPER) or ARGV[2]) ~= ARGV[2] then return { 0 } end
call('SET', SWEEPER, ARGV[2], 'PX', ARGV[3])
return { 1, call('GET', SWEPT) or '', string.match(call('INFO', 'server'), 'run_id:(%w+)') }
