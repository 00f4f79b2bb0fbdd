-- Put down the features of sampled requests of one generation, and forget those that no sample holds any more.
-- KEYS[1] sampled; ARGV[1] features; ARGV[2] generation; ARGV[3] its counter when the samples were read;
-- ARGV[4] msgpack of {hit, features, ...}; ARGV[5] msgpack of the hits to forget.
-- Returns 0 where the samples have changed since, and the second part was left out; else 1.
local now = redis.call('HGET', KEYS[1], ARGV[2])
if not now then return 0 end                     -- the generation is gone, and nobody would drop what came now
local put, gone = cmsgpack.unpack(ARGV[4]), cmsgpack.unpack(ARGV[5])
for i = 1, #put, 2 do redis.call('HSET', ARGV[1], put[i], put[i + 1]) end
if now ~= ARGV[3] then return 0 end
for i = 1, #gone do redis.call('HDEL', ARGV[1], gone[i]) end
return 1
