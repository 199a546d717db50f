defmodule PaymentQueue.Fuzz.WebTest do
  # What comes from outside over HTTP: requests of the dashboard, as a host hands them on, and the options of its plugs.
  use PaymentQueue.QueueCase, async: true

  alias PaymentQueue.{Dashboard, Fuzz}
  alias PaymentQueue.Dashboard.Csrf

  # What a host's parser of forms or JSON makes of a body.
  defp param(depth \\ 2) do
    case Fuzz.below(if(depth == 0, do: 5, else: 7)) do
      0 -> Enum.random(["pause", "resume", "scale", "requeue_dead", "drop", ""])
      1 -> Enum.random(["3", "-1", "65535", "65536", "1e3", " 1", "999999999999999999999", "0x1"])
      2 -> Fuzz.bytes(40)
      3 -> Enum.random([nil, true, 1, 1.5, -1])
      4 -> String.duplicate("a", Fuzz.below(5_000))
      5 -> for _ <- 1..Fuzz.below(4)//1, do: param(depth - 1)
      6 -> Map.new(1..Fuzz.below(4)//1, &{"k#{&1}", param(depth - 1)})
    end
  end

  defp header(real),
    do:
      if(Fuzz.below(2) == 0,
        do: real,
        else: Enum.random([nil, Fuzz.bytes(60), "payment_queue_csrf=", ";;=", "same-origin"])
      )

  defp request(queue, cookie, token) do
    names = ["queue", "operation", "value", "other"]
    params = Map.new(Enum.take_random(names, 1 + Fuzz.below(4)), &{&1, param()})
    params = if Fuzz.below(2) == 0, do: Map.put(params, "queue", Atom.to_string(queue)), else: params

    %{
      method: Enum.random(["GET", "HEAD", "POST", "POST", "POST", "PUT", Fuzz.bytes(5)]),
      path: Enum.random([[], ["events"], ["operations"], ["operations"], [Fuzz.bytes(9)], ["..", "operations"]]),
      params: params,
      headers: %{"cookie" => header(cookie), "x-csrf-token" => header(token), "sec-fetch-site" => header(nil)},
      base: "/queues",
      secure: Fuzz.below(2) == 0
    }
  end

  test "any request is answered; without permission or token nothing is done; no text becomes an atom" do
    queue = queue!(handler: fn _ -> :ok end, concurrency: 2)
    config = Dashboard.options!(queues: [queue])
    {value, token} = Csrf.issue(nil)
    cookie = "#{Csrf.cookie()}=#{value}"

    answers =
      for who <- [true, false], _ <- 1..2_000 do
        request = request(queue, cookie, token)
        before = PaymentQueue.info(queue).state

        case Dashboard.respond(config, request, who) do
          {:ok, status, headers, body} ->
            assert status in [200, 403, 404, 405, 422] and is_list(headers)
            assert IO.iodata_length(body) > 0
            allowed? = who and request.headers["cookie"] == cookie and request.headers["x-csrf-token"] == token
            unless allowed?, do: assert(PaymentQueue.info(queue).state == before)
            {who, status}

          {:events, _headers, stream} ->
            assert {text, _stream} = Dashboard.next_event(stream)
            assert IO.iodata_length(text) > 0
            {who, :events}
        end
      end

    counts = Enum.frequencies(answers)
    assert counts[{true, 200}] > 50 and counts[{true, 422}] > 20 and counts[{false, 403}] > 50
    # What was sent as the name of a queue or of an operation is no atom now.
    unknown = Base.encode16(:rand.bytes(20))

    request = %{
      request(queue, cookie, token)
      | method: "POST",
        path: ["operations"],
        params: %{"queue" => unknown, "operation" => unknown}
    }

    Dashboard.respond(config, request, true)
    assert_raise ArgumentError, fn -> String.to_existing_atom(unknown) end
  end
end
