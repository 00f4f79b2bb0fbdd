-- What the store is measured against: one string key per record, and one GET, SET and HINCRBY per update.
-- KEYS[1]: a hash tag only. ARGV, four for each update: request id, "v" or "l", mask or label, bucket.
-- A record is "bucket|mask|label"; a histogram "h:<bucket>" maps "mask|label" to a count.
-- It knows nothing of coverage, revisions, late labels or more than 31 members: the least that could work.
for i = 1, #ARGV, 4 do
  local id, kind, what, bucket = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local old = redis.call('GET', 'r:' .. id)
  local mask, label = '0', ''
  if old then
    bucket, mask, label = string.match(old, '^([^|]*)|([^|]*)|(.*)$')
    redis.call('HINCRBY', 'h:' .. bucket, mask .. '|' .. label, -1)
  end
  if kind == 'v' then
    mask = tostring(bit.bor(tonumber(mask), tonumber(what)))
  else
    label = what
  end
  redis.call('SET', 'r:' .. id, bucket .. '|' .. mask .. '|' .. label)
  redis.call('HINCRBY', 'h:' .. bucket, mask .. '|' .. label, 1)
end
return #ARGV / 4
