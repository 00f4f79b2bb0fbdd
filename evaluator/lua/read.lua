-- Everything of one shard but its records and histograms, at one instant. KEYS[1] applied; ARGV[1] prefix.
local prefix = ARGV[1]
local pending = 0
for _, name in ipairs(redis.call('SMEMBERS', prefix .. 'pending')) do
  pending = pending + redis.call('HLEN', prefix .. 'p:' .. name)
end
return {
  redis.call('HGETALL', KEYS[1]),
  redis.call('HGETALL', prefix .. 'slots'),
  redis.call('HGETALL', prefix .. 'watermarks'),
  redis.call('HGETALL', prefix .. 'labels'),
  redis.call('HGETALL', prefix .. 'letters'),
  redis.call('HGETALL', prefix .. 'counters'),
  redis.call('HGETALL', prefix .. 'versions'),
  redis.call('GET', prefix .. 'horizon') or '0',
  pending,
  redis.call('HGETALL', prefix .. 'delays'),
}
