-- wrk -t1 -c8 -d6s -s priv/load.lua http://localhost:4000
-- Payments with ids of their own, of 5000 customers.

math.randomseed(os.time())
local run, sent = math.random(1e9), 0

wrk.method = "POST"
wrk.headers["content-type"] = "application/json"

function request()
  sent = sent + 1
  local payment = '{"id":"%d-%d","customer":"c%d","cents":1990}'
  return wrk.format(nil, "/payments", nil, payment:format(run, sent, math.random(5000)))
end
