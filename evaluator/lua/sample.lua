-- Keep the hits with the least scores, for each generation and member.
-- KEYS[1] sampled; ARGV[1] prefix; ARGV[2] msgpack of {k, {generation, member, {score, hit, ...}}, ...}: scores as
-- text, hits as evaluator/examples/sampling.py packs them.
-- Returns for each of them the k-th least score as text, or '' where there are fewer.
-- What was offered before changes nothing, so that a run may be offered again, before it is applied or after.
local prefix, run = ARGV[1], cmsgpack.unpack(ARGV[2])
local call = redis.call
local horizon = tonumber(call('GET', prefix .. 'horizon') or '0')
local k, answer = run[1], {}
for i = 2, #run do
  local generation, member, offers = run[i][1], run[i][2], run[i][3]
  local name = string.format('%.0f', generation)
  local key = prefix .. 's:' .. name .. ':' .. member
  answer[i - 1] = ''
  if generation >= horizon then                  -- else nobody would ever drop it
    call('SADD', prefix .. 's:' .. name, member)
    if call('ZADD', key, 'LT', 'CH', unpack(offers)) > 0 then
      call('ZREMRANGEBYRANK', key, k, -1)
      call('HINCRBY', KEYS[1], name, 1)
    end
    answer[i - 1] = call('ZRANGE', key, k - 1, k - 1, 'WITHSCORES')[2] or ''
  end
end
return answer
