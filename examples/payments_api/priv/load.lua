-- wrk script: POST /payments with 256 bytes of JSON, a new UUID and a random amount in every request.
--
-- Arguments after "--": a seed, different for every run, so that no two runs share a correlationId.
-- The last line of its output is for a program: see PaymentsApi.Demo.Wrk.

local size = 256
local threads = {}

function setup(thread)
  thread:set("id", #threads)
  table.insert(threads, thread)
end

function init(args)
  seed = tonumber(args[1]) or os.time()
  math.randomseed(seed + id)
  count = 0
  -- What stands between the amount and the end only fills up the size, as a real payment's other fields would.
  head = "POST /payments HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: " .. size .. "\r\n\r\n"
  filler = string.rep("x", size)
end

-- Version 4 in form; unique by seed, thread and count rather than by chance.
local function uuid()
  count = count + 1
  return string.format("%08x-%04x-4%03x-8%03x-%012x", seed, id, math.random(0, 0xfff), math.random(0, 0xfff), count)
end

function request()
  local cents = math.random(1, 99999)
  local body = string.format('{"correlationId":"%s","amount":%d.%02d,"description":"', uuid(), math.floor(cents / 100), cents % 100)
  return head .. body .. filler:sub(1, size - #body - 2) .. '"}'
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format("result answered=%d errors=%d broken=%d\n", summary.requests, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout))
end
