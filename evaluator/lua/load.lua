-- What an evaluator must know of one shard before it applies runs of one log partition, at one instant.
-- KEYS[1] applied; ARGV[1] prefix; ARGV[2] log partition. Returns {applied, slots, coverage, labels, letters,
-- watermarks}.
local prefix = ARGV[1]
return {
  redis.call('HGET', KEYS[1], ARGV[2]) or '0',
  redis.call('HGETALL', prefix .. 'slots'),
  redis.call('HGETALL', prefix .. 'coverage'),
  redis.call('HGETALL', prefix .. 'labels'),
  redis.call('HGETALL', prefix .. 'letters'),
  redis.call('HGETALL', prefix .. 'watermarks'),
}
