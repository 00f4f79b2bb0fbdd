-- What a receiver of webhooks has been told. KEYS[1] the hash, KEYS[2] the sorted set of ids. ARGV: the `through`
-- that must stand there now ('' for none, '*' to write all of it anew), the new one ('' leaves it), how many ids
-- are kept, how many come now, those ids, then pairs of fingerprint and what is known of it ('' has ended).
-- Returns 0 where something else stands there: Redis was wiped or fell back, and all is to be written anew.
if ARGV[1] == '*' then
  redis.call('UNLINK', KEYS[1])
elseif (redis.call('HGET', KEYS[1], 'through') or '') ~= ARGV[1] then
  return 0
end
if ARGV[2] ~= '' then redis.call('HSET', KEYS[1], 'through', ARGV[2]) end
local n = tonumber(ARGV[4])
for i = 5, 4 + n do
  redis.call('ZADD', KEYS[2], redis.call('HINCRBY', KEYS[1], 'told', 1), ARGV[i])
end
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -1 - tonumber(ARGV[3]))
for i = 5 + n, #ARGV, 2 do
  if ARGV[i + 1] == '' then
    redis.call('HDEL', KEYS[1], 'c:' .. ARGV[i])
  else
    redis.call('HSET', KEYS[1], 'c:' .. ARGV[i], ARGV[i + 1])
  end
end
return 1
