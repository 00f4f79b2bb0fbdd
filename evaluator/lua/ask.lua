-- Note what is asked about: no request twice, also where its event time has moved to the generation beside.
-- KEYS[1] asked; ARGV[1] prefix; then generation, request id, what to note of it, and so on.
-- Returns 1 for each that was not asked about yet, else 0.
local prefix, answer = ARGV[1], {}
for i = 2, #ARGV, 3 do
  local generation, id = tonumber(ARGV[i]), ARGV[i + 1]
  local free = 1
  for beside = generation - 1, generation + 1 do
    if redis.call('HEXISTS', prefix .. 'q:' .. string.format('%.0f', beside), id) == 1 then free = 0 end
  end
  if free == 1 then
    local name = string.format('%.0f', generation)
    redis.call('HSET', prefix .. 'q:' .. name, id, ARGV[i + 2])
    redis.call('SADD', KEYS[1], name)
  end
  answer[#answer + 1] = free
end
return answer
