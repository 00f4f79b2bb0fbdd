-- The view of the registry: one that has come further stays; one that has come as far is replaced, as it may
-- be another version's.
-- KEYS[1] the view, a hash; ARGV[1] the offset up to which the log is in it; ARGV[2] the document.
local applied = tonumber(redis.call('HGET', KEYS[1], 'applied') or '-1')
if applied > tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'applied', ARGV[1], 'document', ARGV[2])
return 1
