"""The rules of executor.limits.rules in Lua, as Redis runs them; instants and durations in whole microseconds.

A claim is the text "<holder> <lapses at>", one that is done is "done"; a bucket is the instant at which it is full; a
cap is a list of instants. Redis forgets each when it expires.
"""

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local function whole(number) return string.format('%.0f', number) end
local function expiry(us) return whole(math.ceil(us / 1000)) end
local function parts(value)
  if not value then return nil end
  return string.match(value, '^(%S+) (%d+)$')
end
local answers = {}
"""

CLAIM = (
    _NOW
    + """
local holder, claim, window, repeats = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1'
for i, key in ipairs(KEYS) do
  local value = redis.call('GET', key)
  local of, lapses = parts(value)
  if of and of ~= holder and now < tonumber(lapses) then
    answers[i] = tonumber(lapses) - now
  elseif not value or of == holder or (of and repeats) then
    redis.call('SET', key, holder .. ' ' .. whole(now + claim), 'PX', expiry(window))
    answers[i] = 0
  else
    answers[i] = -1
  end
end
return answers
"""
)

FINISH = (
    _NOW
    + """
local holder, window = ARGV[1], tonumber(ARGV[2])
for i, key in ipairs(KEYS) do
  local value = redis.call('GET', key)
  if not value or parts(value) == holder then
    redis.call('SET', key, 'done', 'PX', expiry(window))
    answers[i] = 1
  else
    answers[i] = 0
  end
end
return answers
"""
)

RELEASE = (
    _NOW
    + """
for i, key in ipairs(KEYS) do
  local value = redis.call('GET', key)
  if value and parts(value) == ARGV[1] then
    redis.call('DEL', key)
    answers[i] = 1
  else
    answers[i] = 0
  end
end
return answers
"""
)

TAKE = (
    _NOW
    + """
local interval, burst, n = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local fills, step = interval * burst, n * interval
for i, key in ipairs(KEYS) do
  local full = math.min(math.max(tonumber(redis.call('GET', key) or now), now), now + fills)
  local granted = math.min(tonumber(ARGV[3 + i]), math.floor((now + fills - full) / step))
  full = full + granted * step
  if granted > 0 then redis.call('SET', key, whole(full), 'PX', expiry(full - now)) end
  answers[2 * i - 1] = granted
  answers[2 * i] = math.max(0, full + step - fills - now)
end
return answers
"""
)

COUNT = (
    _NOW
    + """
local most, window = tonumber(ARGV[1]), tonumber(ARGV[2])
for i, key in ipairs(KEYS) do
  local first = redis.call('LINDEX', key, 0)
  while first and tonumber(first) <= now - window do
    redis.call('LPOP', key)
    first = redis.call('LINDEX', key, 0)
  end
  local allowed = math.max(0, math.min(tonumber(ARGV[2 + i]), most - redis.call('LLEN', key)))
  if allowed > 0 then
    local at = math.max(now, tonumber(redis.call('LINDEX', key, -1) or now))
    for _ = 1, allowed do redis.call('RPUSH', key, whole(at)) end
    redis.call('PEXPIRE', key, expiry(at + window - now))
  end
  answers[i] = allowed
end
return answers
"""
)
