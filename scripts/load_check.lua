-- wrk script: one text a request to /v1/check, in order, statuses counted, an optional pause for a given rate.
-- wrk -t1 -c64 -d30s --latency -s scripts/load_check.lua http://127.0.0.1:8000 -- TEXTS.jsonl [PAUSE_MS [CONNECTIONS]]
-- The file holds one JSON value a line, which is sent as `input`. With -t1 no text comes again before all had their
-- turn, so that no batch holds a text twice.
local threads = {}
local ffi = require("ffi")
ffi.cdef("typedef struct { long seconds; long nanoseconds; } moment; int clock_gettime(int clock, moment *now);")
local moment = ffi.new("moment")

local function now()
  ffi.C.clock_gettime(1, moment)
  return tonumber(moment.seconds) + tonumber(moment.nanoseconds) / 1e9
end

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  requests, at = {}, 0
  for line in io.lines(args[1]) do
    local body = '{"input":' .. line .. '}'
    table.insert(requests, wrk.format("POST", "/v1/check", {["Content-Type"] = "application/json"}, body))
  end
  pause, connections = tonumber(args[2] or "0"), tonumber(args[3] or "0")
  math.randomseed(os.time())
  ok, refused, late, other = 0, 0, 0, 0
end

function request()
  first = first or now()
  at = at % #requests + 1
  return requests[at]
end

-- Exponential pauses make arrivals look like independent callers. A connection's first request comes soon: a server
-- closes connections on which nothing is asked.
function delay()
  if pause == 0 then return 0 end
  fresh = (fresh or 0) + 1
  if fresh <= connections then return math.random(0, math.min(math.floor(pause), 5000)) end
  return math.floor(-math.log(1 - math.random()) * pause + 0.5)
end

function response(status)
  last = now()
  if status == 200 then ok = ok + 1
  elseif status == 429 then refused = refused + 1
  elseif status == 504 then late = late + 1
  else other = other + 1 end
end

function done(summary, latency)
  local sum = {ok = 0, refused = 0, late = 0, other = 0}
  for _, thread in ipairs(threads) do
    for name in pairs(sum) do sum[name] = sum[name] + thread:get(name) end
  end
  -- What was begun and not answered when wrk stops counts neither as an answer nor as time.
  local began, ended = math.huge, 0
  for _, thread in ipairs(threads) do
    began, ended = math.min(began, thread:get("first") or began), math.max(ended, thread:get("last") or ended)
  end
  local errors = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  io.write(string.format(
    'RESULT {"ok": %d, "refused": %d, "late": %d, "other": %d, "errors": %d, "seconds": %.3f, "p50_ms": %.2f, ' ..
    '"p99_ms": %.2f}\n', sum.ok, sum.refused, sum.late, sum.other, errors, math.max(ended - began, 1e-9),
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
