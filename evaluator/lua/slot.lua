-- The deployment slot: a lease with a fencing token.
-- KEYS[1] the lease, a hash that expires; KEYS[2] the last token given; ARGV[1] who asks; ARGV[2] ms that it
-- lasts; ARGV[3] a token that is certainly lower than the next one. Returns the token, or 0 for "held".
local holder = redis.call('HGET', KEYS[1], 'holder')
if holder and holder ~= ARGV[1] then return 0 end
local token = tonumber(redis.call('HGET', KEYS[1], 'token') or '0')
if token < tonumber(ARGV[3]) or token == 0 then
  token = math.max(tonumber(redis.call('GET', KEYS[2]) or '0'), tonumber(ARGV[3])) + 1
  redis.call('SET', KEYS[2], string.format('%d', token))
end
redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'token', string.format('%d', token))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return token
