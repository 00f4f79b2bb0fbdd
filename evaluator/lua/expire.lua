-- Event time has passed: drop whole generations of records, their histograms and the labels that waited.
-- KEYS[1] horizon; ARGV[1] prefix; ARGV[2] oldest generation to keep; ARGV[3] generation length in ms.
local prefix, keep, generation_ms = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local old = tonumber(redis.call('GET', KEYS[1]) or '0')
if keep <= old then return 0 end
redis.call('SET', KEYS[1], string.format('%.0f', keep))
local dropped = 0
for _, name in ipairs(redis.call('SMEMBERS', prefix .. 'generations')) do
  if tonumber(name) < keep then
    redis.call('UNLINK', prefix .. 'r:' .. name)
    redis.call('SREM', prefix .. 'generations', name)
    dropped = dropped + 1
  end
end
for _, name in ipairs(redis.call('SMEMBERS', prefix .. 'pending')) do
  if tonumber(name) < keep then
    redis.call('HINCRBY', prefix .. 'counters', 'expired_labels', redis.call('HLEN', prefix .. 'p:' .. name))
    redis.call('UNLINK', prefix .. 'p:' .. name)
    redis.call('SREM', prefix .. 'pending', name)
  end
end
for _, name in ipairs(redis.call('SMEMBERS', prefix .. 'asked')) do
  if tonumber(name) < keep then
    redis.call('UNLINK', prefix .. 'q:' .. name)
    redis.call('SREM', prefix .. 'asked', name)
  end
end
for _, name in ipairs(redis.call('HKEYS', prefix .. 'sampled')) do
  if tonumber(name) < keep then
    for _, member in ipairs(redis.call('SMEMBERS', prefix .. 's:' .. name)) do
      redis.call('UNLINK', prefix .. 's:' .. name .. ':' .. member)
    end
    redis.call('UNLINK', prefix .. 's:' .. name, prefix .. 'f:' .. name)
    redis.call('HDEL', prefix .. 'sampled', name)
  end
end
for _, bucket in ipairs(redis.call('HKEYS', prefix .. 'versions')) do
  if tonumber(bucket) < keep * generation_ms then
    redis.call('UNLINK', prefix .. 'b:' .. bucket)
    redis.call('HDEL', prefix .. 'versions', bucket)
  end
end
for _, field in ipairs(redis.call('HKEYS', prefix .. 'delays')) do
  if tonumber(string.match(field, '^[^|]*')) < keep then redis.call('HDEL', prefix .. 'delays', field) end
end
return dropped
