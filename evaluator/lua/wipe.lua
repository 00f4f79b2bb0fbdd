-- Forget one shard at one instant, so that evaluators fold it anew from the log. KEYS[1] applied; ARGV[1] prefix;
-- ARGV[2] 1 to forget also what reviewers were asked, which is in no log that is folded.
local prefix = ARGV[1]
if ARGV[2] == '1' then
  for _, name in ipairs(redis.call('SMEMBERS', prefix .. 'asked')) do redis.call('UNLINK', prefix .. 'q:' .. name) end
  redis.call('UNLINK', prefix .. 'asked')
end
for _, name in ipairs(redis.call('SMEMBERS', prefix .. 'generations')) do redis.call('UNLINK', prefix .. 'r:' .. name) end
for _, name in ipairs(redis.call('SMEMBERS', prefix .. 'pending')) do redis.call('UNLINK', prefix .. 'p:' .. name) end
for _, name in ipairs(redis.call('HKEYS', prefix .. 'sampled')) do
  for _, member in ipairs(redis.call('SMEMBERS', prefix .. 's:' .. name)) do
    redis.call('UNLINK', prefix .. 's:' .. name .. ':' .. member)
  end
  redis.call('UNLINK', prefix .. 's:' .. name, prefix .. 'f:' .. name)
end
for _, name in ipairs(redis.call('HKEYS', prefix .. 'versions')) do redis.call('UNLINK', prefix .. 'b:' .. name) end
for _, name in ipairs({'applied', 'slots', 'coverage', 'watermarks', 'labels', 'letters', 'generations', 'pending',
                       'versions', 'counters', 'horizon', 'sources', 'delays', 'sampled'}) do
  redis.call('UNLINK', prefix .. name)
end
return 'OK'
