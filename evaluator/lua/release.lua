-- Give the deployment slot up. KEYS[1] the lease; ARGV[1] who asks. Its token is never given again.
if redis.call('HGET', KEYS[1], 'holder') == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 0
