-- What the store is measured against: one string key per record, and for every update one GET, one SET and a
-- HINCRBY for the cell that it leaves and the one that it enters. Exact and replay-safe like the product's
-- script: masks are merged, the earliest time stands, the highest label version wins. What it leaves out, to
-- its own advantage: coverage, the fence, neighbouring generations, labels that wait for their request.
-- KEYS[1]: a hash tag only. ARGV[1]: bucket length in ms. Then eight for each update:
--   "v", request id, time, true mask, abstain mask, segment, revision, answered (1 or 0); or
--   "l", request id, requested_at, label, label revision, labelled_at, source, "".
local call, pack, floor = redis.call, cmsgpack.pack, math.floor
local bucket_ms = tonumber(ARGV[1])

local function union(a, b)
  local out = {}
  for i = 1, math.max(#a, #b) do
    out[i] = string.char(bit.bor(string.byte(a, i) or 0, string.byte(b, i) or 0))
  end
  return table.concat(out)
end

local function count(time, yes, no, segment, revision, label, answered, by)
  local cell = pack(yes, no, segment, revision, label, answered)
  call('HINCRBY', 'h:' .. string.format('%.0f', time - time % bucket_ms), cell, by)
end

for i = 2, #ARGV, 8 do
  local key = 'r:' .. ARGV[i + 1]
  local at = tonumber(ARGV[i + 2])
  local old = call('GET', key)
  local time, voted, yes, no, segment, revision, answered, label, lrev, lat, source =
    at, false, '', '', '', 0, false, 0, -1, -1, ''
  if old then
    time, voted, yes, no, segment, revision, answered, label, lrev, lat, source = cmsgpack.unpack(old)
    count(time, yes, no, segment, revision, label, answered, -1)
  end
  if ARGV[i] == 'v' then
    if not voted or at < time then time, segment = at, ARGV[i + 5] end
    yes, no = union(yes, ARGV[i + 3]), union(no, ARGV[i + 4])
    local stamp = tonumber(ARGV[i + 6])
    if revision == 0 or stamp < revision then revision = stamp end
    voted, answered = true, answered or ARGV[i + 7] == '1'
  else
    local rev, given = tonumber(ARGV[i + 4]), tonumber(ARGV[i + 5])
    if not voted and at < time then time = at end
    if rev > lrev or (rev == lrev and (given > lat or (given == lat and ARGV[i + 6] > source))) then
      label, lrev, lat, source = tonumber(ARGV[i + 3]), rev, given, ARGV[i + 6]
    end
  end
  call('SET', key, pack(time, voted, yes, no, segment, revision, answered, label, lrev, lat, source))
  count(time, yes, no, segment, revision, label, answered, 1)
end
return (#ARGV - 1) / 8
