-- Changes the steering documents of one surface and records the changes, in one atomic step on the server.
--
-- For each document the caller says what it has read.
-- 1. If one of them holds something else by now, or the history has gone on past the revision that the caller knows,
--    nothing is done: {'changed'}.
-- 2. What was changed by hand and is in no entry yet is recorded with the actor 'unknown', by whoever comes first: once.
-- 3. New content, if there is any, is written and recorded.
--
-- KEYS: the history's stream, then the hash of each document.
-- ARGV: how many entries the stream keeps; the known revision, or ''; actor; reason; then for each document
--   its name;
--   its content as read: text, version ('' if it is refused), refusal, count of fields (-1: the key holds something
--   other than a hash), each field and value;
--   its new content: count of fields (0: leave it as it is), text, version, each field and value.
local place = 0
local function take()
  place = place + 1
  return ARGV[place]
end

local function take_fields(count)
  local fields = {}
  for i = 1, count * 2 do fields[i] = take() end
  return fields
end

local most, known, actor, reason = tonumber(take()), take(), take(), take()

local revision, recorded = 0, {}
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if newest then
  revision, recorded = nil, nil
  for i = 1, #newest[2], 2 do
    if newest[2][i] == 'revision' then revision = tonumber(newest[2][i + 1]) end
    if newest[2][i] == 'documents' then recorded = cjson.decode(newest[2][i + 1]) end
  end
  -- Counting from 1 again would make up a history that never was.
  if not (revision and recorded) then
    return redis.error_reply('ERR ' .. newest[1] .. ' in ' .. KEYS[1] .. ' is not an entry of a history: XDEL it')
  end
end
if known ~= '' and tonumber(known) ~= revision then return {'changed'} end

local function holds(key, count, fields)
  local kind = redis.call('TYPE', key).ok
  if count == -1 then return kind ~= 'hash' and kind ~= 'none' end
  if kind ~= 'hash' then return kind == 'none' and count == 0 end
  local now = redis.call('HGETALL', key)
  if #now ~= #fields then return false end
  local values = {}
  for i = 1, #now, 2 do values[now[i]] = now[i + 1] end
  for i = 1, #fields, 2 do
    if values[fields[i]] ~= fields[i + 1] then return false end
  end
  return true
end

local documents = {}
for i = 2, #KEYS do
  local document = {key = KEYS[i], name = take(), text = take(), version = take(), refused = take()}
  document.count = tonumber(take())
  document.fields = take_fields(document.count)
  document.new_count = tonumber(take())
  if document.new_count > 0 then
    document.new_text, document.new_version = take(), take()
    document.new_fields = take_fields(document.new_count)
  end
  if not holds(document.key, document.count, document.fields) then return {'changed'} end
  documents[#documents + 1] = document
end

local function record(name, who, why, after, version, refused)
  revision = revision + 1
  local before = recorded[name] or '{}'
  if after == '{}' then recorded[name] = nil else recorded[name] = after end
  redis.call('XADD', KEYS[1], 'MAXLEN', most, '*', 'revision', revision, 'document', name, 'actor', who,
    'reason', why, 'before', before, 'after', after, 'version', version, 'refused', refused,
    'documents', cjson.encode(recorded))
end

for _, document in ipairs(documents) do
  if (recorded[document.name] or '{}') ~= document.text then
    record(document.name, 'unknown', '', document.text, document.version, document.refused)
  end
end
for _, document in ipairs(documents) do
  if document.new_fields then
    redis.call('DEL', document.key)
    -- One at a time: unpack has a limit, and an error here would leave the hash deleted.
    for i = 1, #document.new_fields, 2 do
      redis.call('HSET', document.key, document.new_fields[i], document.new_fields[i + 1])
    end
    record(document.name, actor, reason, document.new_text, document.new_version, '')
  end
end
return {'done', revision}
