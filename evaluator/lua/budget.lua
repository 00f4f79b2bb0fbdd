-- One round of asking for reviews: who comes first in a minute gets what is left of the budget by then.
-- KEYS[1] reviews of one hour; ARGV[1] minute of the hour; ARGV[2] how many may have been asked for by now.
-- Returns how many may be asked for: they count as spent, and what is not used is given back.
if redis.call('HSETNX', KEYS[1], 'minute:' .. ARGV[1], 1) == 0 then return 0 end
redis.call('EXPIRE', KEYS[1], 7200)
local left = tonumber(ARGV[2]) - tonumber(redis.call('HGET', KEYS[1], 'spent') or '0')
if left <= 0 then return 0 end
redis.call('HINCRBY', KEYS[1], 'spent', left)
return left
