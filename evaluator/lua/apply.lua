-- Apply one run [from, to) of one log partition to one shard, in one atomic step.
--
-- KEYS[1]  applied    hash: log partition -> offset up to which it has been applied
-- ARGV[1]  prefix of this shard's keys, `chorus:{suite:shard}:`
-- ARGV[2]  msgpack of the run, see evaluator/fold.py:
--          {log, from, to, declare_gap, nonce, bucket_ms, generation_ms, slots, sets, counts, hits, labels}
--
-- The other keys are built from the prefix, and so lie in the same cluster slot; evaluator/keys.py lists
-- them with what they hold. A run is applied if and only if it begins exactly where this partition's last
-- one ended, so nothing can be left out and nothing applied twice; the answer names the offset to go on
-- from. A record is one msgpack sequence:
--   time (ms since its generation began), flags, revision, true mask, abstain mask, segment
--   and, once a label came: label revision, labelled_at (ms since the generation began), source.
-- Where there is neither an abstention nor a segment the two are left out, and the flag BARE says so; a
-- source is a number, an index into the hash `sources`, as long as these are few. evaluator/record.py reads it.

local TIMED, ANSWERED, LIVE_REVISION, ANCHORED = 1, 2, 4, 8        -- flags: the low four bits
local WITHDRAWN = 3                                                -- flags / 16 % 4: the label; 1 and 2 too
local BARE = 64
local HELD = 128                                                   -- held out; rare: it costs a second byte

local prefix = ARGV[1]
local call, pack, unpack_msg = redis.call, cmsgpack.pack, cmsgpack.unpack
local floor, max, min = math.floor, math.max, math.min
local char, byte, sub = string.char, string.byte, string.sub
local bor = bit.bor
local CHUNK = 4000                                                  -- Lua's unpack() takes about 8000
local FEW = 1000                                                    -- sources that have a number

local run = unpack_msg(ARGV[2])
local log, from, to, declare_gap, nonce = run[1], run[2], run[3], run[4], run[5]
local bucket_ms, generation_ms = run[6], run[7]
local slots, sets, counts, hits, labels = run[8], run[9], run[10], run[11], run[12]

-- 1. The fence: a run that does not begin where the last one ended is refused, with where to go on.
local applied = tonumber(call('HGET', KEYS[1], log) or '0')
if from ~= applied then
  if not (declare_gap and from > applied) then return {'REFUSED', applied} end
  call('HINCRBY', prefix .. 'counters', 'gaps', 1)
  call('HINCRBY', prefix .. 'counters', 'gap_records', from - applied)
end

-- 2. The slots that the masks were made with must be the ones that stand here.
if #slots > 0 then
  local taken = call('HLEN', prefix .. 'slots')
  for i = 1, #slots, 2 do
    local stands = call('HGET', prefix .. 'slots', slots[i])
    if stands then
      if tonumber(stands) ~= slots[i + 1] then return {'SLOTS', applied} end
    elseif slots[i + 1] ~= taken then
      return {'SLOTS', applied}
    else
      taken = taken + 1
    end
  end
  for i = 1, #slots, 2 do call('HSETNX', prefix .. 'slots', slots[i], slots[i + 1]) end
end

local horizon = tonumber(call('GET', prefix .. 'horizon') or '0')    -- the oldest generation that is kept
local touched = {}                                                   -- bucket -> true
local late = 0

-- 3. Positions: volume, scored, abstained, failed per bucket; coverage, watermarks.
for i = 1, #counts, 2 do
  local bucket, fields = counts[i], counts[i + 1]
  if bucket >= horizon * generation_ms then
    local key = prefix .. 'b:' .. string.format('%.0f', bucket)
    touched[bucket] = true
    for j = 1, #fields, 2 do call('HINCRBY', key, fields[j], fields[j + 1]) end
  end
end
for i = 1, #sets, 3 do call('HSET', prefix .. sets[i], sets[i + 1], sets[i + 2]) end

-- 4. Records, read in bulk and kept here until they are written back.
local loaded = {}                    -- generation -> id -> record, or as it is packed, or false: there is none
local exists = {}                    -- generation -> whether its hash exists
local changed = {}                   -- records to be written
local plain = {}                     -- generation -> id, packed, ...: written as they are, before `changed`
local cells = {}                     -- bucket -> cell -> by how much it changes

local function generation_key(generation) return prefix .. 'r:' .. string.format('%.0f', generation) end

local source_names, source_numbers   -- read when a label needs them

local function read_sources()
  source_names, source_numbers = {}, {}
  local all = call('HGETALL', prefix .. 'sources')
  for i = 1, #all, 2 do
    local number = tonumber(all[i + 1])
    source_names[number], source_numbers[all[i]] = all[i], number
  end
end

local function number_of(source)
  if not source_names then read_sources() end
  local number = source_numbers[source]
  if number then return number end
  number = #source_names + 1
  if number > FEW then return source end
  call('HSET', prefix .. 'sources', source, number)
  source_names[number], source_numbers[source] = source, number
  return number
end

local function name_of(source)
  if type(source) ~= 'number' then return source end
  if not source_names then read_sources() end
  return source_names[source]
end

local function pack_rest(flags, label, revision, yes, no, segment)
  -- A record less its time and the label's version.
  if no == '' and segment == '' then return pack(flags + 16 * label + BARE, revision, yes) end
  return pack(flags + 16 * label, revision, yes, no, segment)
end

local function unpack_rest(flags, revision, yes, a, b, c, d, e)
  -- flags (the low four bits and HELD), label, revision, yes, no, segment, lrev, lat, source
  local held = 0
  if flags >= HELD then flags, held = flags - HELD, HELD end
  if flags >= BARE then return flags % 16 + held, floor(flags / 16) % 4, revision, yes, '', '', a, b, c end
  return flags % 16 + held, floor(flags / 16), revision, yes, a, b, c, d, e
end

local function read_parts(start, generation, id, time, ...)
  local flags, label, revision, yes, no, segment, lrev, lat, source = unpack_rest(...)
  return {id = id, generation = generation, time = start + time, flags = flags, label = label,
          revision = revision, yes = yes, no = no, segment = segment,
          lrev = lrev, lat = lat and start + lat, source = name_of(source), stored = generation}
end

local function read(value, generation, id)
  return read_parts(generation * generation_ms, generation, id, unpack_msg(value))
end

local function fetch(generation, ids)
  local known = loaded[generation]
  if not known then known = {}; loaded[generation] = known end
  if exists[generation] == nil then
    exists[generation] = call('EXISTS', generation_key(generation)) == 1
  end
  if not exists[generation] then
    for i = 1, #ids do if known[ids[i]] == nil then known[ids[i]] = false end end
    return
  end
  for first = 1, #ids, CHUNK do
    local last = min(first + CHUNK - 1, #ids)
    local values = call('HMGET', generation_key(generation), unpack(ids, first, last))
    for i = 1, #values do
      local id = ids[first + i - 1]
      if known[id] == nil then
        known[id] = values[i] or false
      end
    end
  end
end

local function prefetch(generations, ids)
  -- Own generation first, then the neighbours of those that were not found there.
  local wanted = {}
  for i = 1, #ids do
    local generation = generations[i]
    if generation then
      local list = wanted[generation]
      if not list then list = {}; wanted[generation] = list end
      list[#list + 1] = ids[i]
    end
  end
  local beside = {}
  for generation, list in pairs(wanted) do
    fetch(generation, list)
    local known, rest = loaded[generation], {}
    for i = 1, #list do if not known[list[i]] then rest[#rest + 1] = list[i] end end
    beside[generation] = rest
  end
  for generation, list in pairs(beside) do
    if #list > 0 then
      fetch(generation - 1, list)
      fetch(generation + 1, list)
    end
  end
end

local function at(generation, id)
  local known = loaded[generation]
  local record = known and known[id]
  if type(record) == 'string' then
    record = read(record, generation, id)
    known[id] = record
  end
  return record or nil
end

local function find(generation, id)
  return at(generation, id) or at(generation - 1, id) or at(generation + 1, id)
end


local function cell_of(flags, label, revision, yes, no, segment)
  -- What the histogram tells apart. Withdrawn counts as unlabelled; a record of nothing counts nowhere.
  if label == WITHDRAWN then label = 0 end
  if label == 0 and yes == '' then return false end
  local state = label
  if label > 0 and flags % 16 >= ANCHORED then state = state + 4 end
  if floor(flags / ANSWERED) % 2 == 1 then state = state + 8 end
  if flags >= HELD then state = state + 16 end
  return 'h' .. pack(yes, no, segment, revision, state)
end

local function add(time, cell, by)
  if not cell then return end
  local bucket = time - time % bucket_ms
  local column = cells[bucket]
  if not column then column = {}; cells[bucket] = column end
  column[cell] = (column[cell] or 0) + by
end

local delays = {}                    -- generation -> label * 1000 + bin of the label's delay -> change

local function add_delay(time, label, lat, by)
  -- Bin k: floor(4 log2(delay / 1 min)), at least 0; by frexp, as evaluator/evidence/maturity.py has it.
  local mantissa, exponent = math.frexp(max(lat - time, 1) / 60000)
  local bin = 4 * (exponent - 1)
  if mantissa >= 2 ^ -0.25 then bin = bin + 3
  elseif mantissa >= 2 ^ -0.5 then bin = bin + 2
  elseif mantissa >= 2 ^ -0.75 then bin = bin + 1 end
  local generation = floor(time / generation_ms)
  local column = delays[generation]
  if not column then column = {}; delays[generation] = column end
  local key = label * 1000 + max(bin, 0)
  column[key] = (column[key] or 0) + by
end

local function count(record, by)
  local label = record.label
  local cell = cell_of(record.flags, label, record.revision, record.yes, record.no, record.segment)
  add(record.time, cell, by)
  if label == 1 or label == 2 then add_delay(record.time, label, record.lat, by) end
end

local function table_of(tables, key)
  local found = tables[key]
  if not found then found = {}; tables[key] = found end
  return found
end

local function split(packed)
  -- A packed record is its time, then all the rest: (bytes of the time, the time). Nearly always the time is
  -- a msgpack uint32, and taken apart here; what is shorter (the first minute of a generation) is not.
  local first, a, b, c, d = byte(packed, 1, 5)
  if first == 0xce then return 5, ((a * 256 + b) * 256 + c) * 256 + d end
end

local rests = {}                     -- the rest of a record -> its parts and what a label makes of it

local function rest_of(rest)
  local known = rests[rest]
  if known == nil then
    local flags, _, revision, yes, no, segment, lrev = unpack_rest(unpack_msg(rest))
    known = false
    if not lrev then
      known = {flags = flags, revision = revision, yes = yes, no = no, segment = segment, labelled = {},
               cell = cell_of(flags, 0, revision, yes, no, segment)}
    end
    rests[rest] = known
  end
  return known
end

local function labelled(known, label, anchored)
  -- What the rest of an unlabelled record becomes: {packed without the label's version, its cell}.
  local key = anchored and label or label + 4
  local found = known.labelled[key]
  if not found then
    local flags = known.flags
    if anchored and flags % 16 < ANCHORED then flags = flags + ANCHORED end
    found = {pack_rest(flags, label, known.revision, known.yes, known.no, known.segment),
             cell_of(flags, label, known.revision, known.yes, known.no, known.segment)}
    known.labelled[key] = found
  end
  return found
end
local NOTHING = {flags = 0, revision = 0, yes = '', no = '', segment = '', labelled = {}, cell = false}

local function open(record)
  -- Take a record out of the histogram before its first change in this run.
  if not record.open then
    record.open = true
    changed[#changed + 1] = record
    if record.stored then count(record, -1) end
  end
end

local function create(generation, id, time)
  local record = {id = id, generation = generation, time = time, flags = 0, label = 0, revision = 0,
                  yes = '', no = '', segment = '', open = true}
  changed[#changed + 1] = record
  local known = loaded[generation]
  if not known then known = {}; loaded[generation] = known end
  known[id] = record
  return record
end

local function move(record, time)
  -- Gives the record another time; it changes its generation where it has to.
  local generation = floor(time / generation_ms)
  record.time = time
  if generation ~= record.generation then
    loaded[record.generation][record.id] = false
    if not loaded[generation] then loaded[generation] = {} end
    loaded[generation][record.id] = record
    record.generation = generation
  end
end

local function union(a, b)
  if a == b or b == '' then return a end
  if a == '' then return b end
  if #a == 1 and #b == 1 then return char(bor(byte(a), byte(b))) end
  local out = {}
  for i = 1, max(#a, #b) do out[i] = char(bor(byte(a, i) or 0, byte(b, i) or 0)) end
  return table.concat(out)
end

local function less(a, b)
  -- By bytes: Lua's own < follows the locale of the server.
  for i = 1, min(#a, #b) do
    local x, y = byte(a, i), byte(b, i)
    if x ~= y then return x < y end
  end
  return #a < #b
end

local function merge_label(record, label, lrev, lat, source, anchored)
  -- The highest (revision, labelled_at, source) wins, and where all three are equal the higher code.
  open(record)
  if anchored and record.flags % 16 < ANCHORED then record.flags = record.flags + ANCHORED end
  local wins
  if record.lrev == nil then wins = true
  elseif lrev ~= record.lrev then wins = lrev > record.lrev
  elseif lat ~= record.lat then wins = lat > record.lat
  elseif source ~= record.source then wins = less(record.source, source)
  else wins = label > record.label end
  if wins then record.label, record.lrev, record.lat, record.source = label, lrev, lat, source end
end

local function anchor_time(record, time)
  -- A label's requested_at places a record only until a vote does; the earliest stands.
  if record.flags % 2 == 0 and time < record.time then move(record, time) end
end

local waiting = {}                   -- id -> key of a pending hash -> the label that waits there

local function wait_for(ids)
  -- Looks up which of these ids have labels that wait for their request.
  local pending = call('SMEMBERS', prefix .. 'pending')
  for g = 1, #pending do
    local key = prefix .. 'p:' .. pending[g]
    for first = 1, #ids, CHUNK do
      local values = call('HMGET', key, unpack(ids, first, min(first + CHUNK - 1, #ids)))
      for i = 1, #values do
        if values[i] then
          local id = ids[first + i - 1]
          if not waiting[id] then waiting[id] = {} end
          waiting[id][key] = values[i]
        end
      end
    end
  end
end

local function absorb(record)
  local found = waiting[record.id]
  if found then
    waiting[record.id] = nil
    for key, value in pairs(found) do
      merge_label(record, unpack_msg(value))
      call('HDEL', key, record.id)
    end
  end
end

-- 5. Votes: {generations, ids, times, indexes into patterns, patterns}; a pattern is
--    {true mask, abstain mask, segment, revision, answered, live, held out}.
if hits then
  local generations, ids, times, which, patterns = hits[1], hits[2], hits[3], hits[4], hits[5]
  prefetch(generations, ids)
  wait_for(ids)
  local generation, start, own, before, after, list               -- those of the last one: neighbours agree
  for i = 1, #ids do
    local id, time = ids[i], times[i]
    if generations[i] ~= generation then
      generation = generations[i]
      start = generation * generation_ms
      own = table_of(loaded, generation)
      before, after = table_of(loaded, generation - 1), table_of(loaded, generation + 1)
      list = table_of(plain, generation)
    end
    if generation < horizon then
      late = late + 1
    elseif not own[id] and not before[id] and not after[id] and not waiting[id] then
      local pattern = patterns[which[i] + 1]
      if not pattern.rest then                                       -- a new record, alike but for its time
        local flags = TIMED + (pattern[5] and ANSWERED or 0) + (pattern[6] and LIVE_REVISION or 0)
          + (pattern[7] and HELD or 0)
        pattern.rest = pack_rest(flags, 0, pattern[4], pattern[1], pattern[2], pattern[3])
        pattern.cell = cell_of(flags, 0, pattern[4], pattern[1], pattern[2], pattern[3])
      end
      local packed = pack(time - start) .. pattern.rest
      own[id] = packed
      list[#list + 1] = id
      list[#list + 1] = packed
      add(time, pattern.cell, 1)
    else
      local pattern = patterns[which[i] + 1]
      local segment, revision, live = pattern[3], pattern[4], pattern[6]
      local record = find(generation, id)
      if not record then record = create(generation, id, time) else open(record) end
      local flags = record.flags
      if flags % 2 == 0 then                                         -- the first vote: its time is the truth
        if time ~= record.time then move(record, time) end
        record.segment = segment
        flags = flags + TIMED
      elseif time < record.time or (time == record.time and less(segment, record.segment)) then
        move(record, time)
        record.segment = segment
      end
      local by_live = floor(flags / LIVE_REVISION) % 2 == 1
      if live and not by_live then
        flags = flags + LIVE_REVISION
        record.revision = revision
      elseif live == by_live and (record.revision == 0 or revision < record.revision) then
        record.revision = revision
      end
      if pattern[5] and floor(flags / ANSWERED) % 2 == 0 then flags = flags + ANSWERED end
      if pattern[7] and flags < HELD then flags = flags + HELD end
      record.flags = flags
      record.yes = union(record.yes, pattern[1])
      record.no = union(record.no, pattern[2])
      absorb(record)
    end
  end
end

-- 6. Labels: {ids, requested_at or false, labels, revisions, labelled_at, sources}, in the order of the log.
if labels then
  local ids, asked, given, revisions, ats, sources = labels[1], labels[2], labels[3], labels[4], labels[5], labels[6]
  local generations, floating, placed = {}, {}, {}
  for i = 1, #ids do
    if asked[i] then
      generations[i] = floor(asked[i] / generation_ms)
      placed[#placed + 1] = ids[i]
    else
      generations[i] = false
      floating[#floating + 1] = ids[i]
    end
  end
  prefetch(generations, ids)
  wait_for(placed)
  local all = {}
  if #floating > 0 then
    all = call('SMEMBERS', prefix .. 'generations')
    for g = 1, #all do
      all[g] = tonumber(all[g])
      fetch(all[g], floating)
    end
    table.sort(all, function(a, b) return a > b end)
  end
  local last, start, own, before, after, list                      -- those of the last one: neighbours agree
  local function label_plainly(i, generation, id, time)
    -- The two common cases: a request that nobody flagged, and one that is flagged and not labelled yet.
    -- What is written so stays packed, for a later update of this run to find.
    if waiting[id] then return false end
    if generation ~= last then
      last, start = generation, generation * generation_ms
      own = table_of(loaded, generation)
      before, after = table_of(loaded, generation - 1), table_of(loaded, generation + 1)
      list = table_of(plain, generation)
    end
    local value, packed, moment = own[id], nil, time
    if value then
      if type(value) ~= 'string' then return false end
      local length, since = split(value)
      if not length then return false end
      local parts = rest_of(sub(value, length + 1))
      if not parts or parts.flags % 2 == 0 then return false end
      local new = labelled(parts, given[i], true)
      moment = start + since
      add(moment, parts.cell, -1)
      add(moment, new[2], 1)
      packed = sub(value, 1, length) .. new[1]
    else
      if before[id] or after[id] then return false end
      local new = labelled(NOTHING, given[i], true)
      add(time, new[2], 1)
      packed = pack(time - start) .. new[1]
    end
    if given[i] ~= WITHDRAWN then add_delay(moment, given[i], ats[i], 1) end
    packed = packed .. pack(revisions[i], ats[i] - start, number_of(sources[i]))
    own[id] = packed
    list[#list + 1] = id
    list[#list + 1] = packed
    return true
  end

  for i = 1, #ids do
    local id, time, generation, record = ids[i], asked[i], generations[i], nil
    if time then
      if generation < horizon then
        late = late + 1
      elseif not label_plainly(i, generation, id, time) then
        record = find(generation, id)
        if record then
          open(record)
          anchor_time(record, time)
        else
          record = create(generation, id, time)
        end
        merge_label(record, given[i], revisions[i], ats[i], sources[i], true)
        absorb(record)
      end
    else
      for g = 1, #all do
        record = at(all[g], id)
        if record then break end
      end
      if not record then                     -- one that an earlier label of this very run has placed
        for generation in pairs(loaded) do
          local candidate = at(generation, id)
          if candidate and (not record or candidate.time > record.time) then record = candidate end
        end
      end
      if record then
        merge_label(record, given[i], revisions[i], ats[i], sources[i], false)
      else                                   -- its request is unknown: it waits for a vote, by labelled_at
        local home = floor(ats[i] / generation_ms)
        if home < horizon then
          late = late + 1
        else
          local name = string.format('%.0f', home)
          local key = prefix .. 'p:' .. name
          local before = call('HGET', key, id)
          local holder = {flags = 0, label = 0, open = true}
          if before then merge_label(holder, unpack_msg(before)) end
          merge_label(holder, given[i], revisions[i], ats[i], sources[i], false)
          local value = pack(holder.label, holder.lrev, holder.lat, holder.source, false)
          call('HSET', key, id, value)
          call('SADD', prefix .. 'pending', name)
          if not waiting[id] then waiting[id] = {} end
          waiting[id][key] = value
        end
      end
    end
  end
end

-- 7. Write back: the records by generation, the histogram cells that changed.
local writes, removals = {}, {}
for i = 1, #changed do
  local record = changed[i]
  count(record, 1)
  local generation = record.generation
  if record.stored and record.stored ~= generation then
    local list = removals[record.stored]
    if not list then list = {}; removals[record.stored] = list end
    list[#list + 1] = record.id
  end
  local list = writes[generation]
  if not list then list = {}; writes[generation] = list end
  local start = generation * generation_ms
  local value = pack(record.time - start)
    .. pack_rest(record.flags, record.label, record.revision, record.yes, record.no, record.segment)
  if record.lrev then value = value .. pack(record.lrev, record.lat - start, number_of(record.source)) end
  list[#list + 1] = record.id
  list[#list + 1] = value
end
for generation, list in pairs(plain) do
  if #list > 0 then call('SADD', prefix .. 'generations', string.format('%.0f', generation)) end
  for first = 1, #list, CHUNK do
    call('HSET', generation_key(generation), unpack(list, first, min(first + CHUNK - 1, #list)))
  end
end
for generation, list in pairs(removals) do
  for first = 1, #list, CHUNK do
    call('HDEL', generation_key(generation), unpack(list, first, min(first + CHUNK - 1, #list)))
  end
end
for generation, list in pairs(writes) do
  call('SADD', prefix .. 'generations', string.format('%.0f', generation))
  for first = 1, #list, CHUNK do
    call('HSET', generation_key(generation), unpack(list, first, min(first + CHUNK - 1, #list)))
  end
end
for bucket, column in pairs(cells) do
  local key, names, gone, set = prefix .. 'b:' .. string.format('%.0f', bucket), {}, {}, {}
  for cell, by in pairs(column) do
    if by ~= 0 then names[#names + 1] = cell end
  end
  for first = 1, #names, CHUNK / 2 do                               -- one call for many, not HINCRBY for each
    local last = min(first + CHUNK / 2 - 1, #names)
    local values = call('HMGET', key, unpack(names, first, last))
    for i = 1, #values do
      local cell = names[first + i - 1]
      local now = (values[i] and tonumber(values[i]) or 0) + column[cell]
      if now == 0 then
        gone[#gone + 1] = cell
      else
        set[#set + 1] = cell
        set[#set + 1] = string.format('%.0f', now)
      end
    end
  end
  if #names > 0 then touched[bucket] = true end
  for first = 1, #set, CHUNK do call('HSET', key, unpack(set, first, min(first + CHUNK - 1, #set))) end
  for first = 1, #gone, CHUNK do call('HDEL', key, unpack(gone, first, min(first + CHUNK - 1, #gone))) end
end
for generation, column in pairs(delays) do
  for key, by in pairs(column) do
    local field = string.format('%.0f|%d|%d', generation, floor(key / 1000), key % 1000)
    if by ~= 0 and call('HINCRBY', prefix .. 'delays', field, by) == 0 then
      call('HDEL', prefix .. 'delays', field)
    end
  end
end
for bucket in pairs(touched) do call('HSET', prefix .. 'versions', string.format('%.0f', bucket), nonce) end
if late > 0 then call('HINCRBY', prefix .. 'counters', 'late', late) end
call('HSET', KEYS[1], log, to)
return {'OK', to}
