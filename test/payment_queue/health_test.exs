defmodule PaymentQueue.HealthTest do
  use PaymentQueue.QueueCase, async: true

  doctest PaymentQueue.Health

  alias PaymentQueue.Health

  defp answer(opts) do
    {status, headers, body} = Health.response(opts)
    assert {"content-type", "application/json"} in headers
    {status, IO.iodata_to_binary(body)}
  end

  test "an open queue is well, with its depth" do
    queue = queue!()
    {:ok, 3} = PaymentQueue.enqueue_many([1, 2, 3], queue: queue)
    {:ok, 1, _lease} = PaymentQueue.take(queue: queue)
    assert answer(queue: queue) == {200, ~s({"status":"ok","queue":{"queue_size":2,"in_flight":1}})}
  end

  test "a paused one too; a closed one is not, until it is open again" do
    queue = queue!()
    :ok = PaymentQueue.pause(queue)
    assert {200, _} = answer(queue: queue)
    :ok = PaymentQueue.drain(queue)
    closed = ~s({"status":"error","reason":"queue_closed","queue":{"queue_size":0,"in_flight":0}})
    assert answer(queue: queue) == {503, closed}
    :ok = PaymentQueue.resume(queue)
    assert {200, _} = answer(queue: queue)
  end

  test "one that never was is not" do
    assert answer(queue: :never_started) == {503, ~s({"status":"error","reason":"queue_unavailable","queue":null})}
    assert answer(queue: :never_started, max_oldest_ms: 5) |> elem(0) == 503
  end

  test "thresholds: up to them is well" do
    queue = queue!()
    {:ok, 2} = PaymentQueue.enqueue_many([1, 2], queue: queue)
    assert {200, _} = answer(queue: queue, max_queue_size: 2)
    assert {503, body} = answer(queue: queue, max_queue_size: 1)
    assert body == ~s({"status":"error","reason":"queue_size","queue":{"queue_size":2,"in_flight":0}})
    assert {200, _} = answer(queue: queue, max_oldest_ms: 60_000)
    eventually(fn -> match?({503, _}, answer(queue: queue, max_oldest_ms: 0)) end)
    assert {503, body} = answer(queue: queue, max_oldest_ms: 0)
    assert body =~ ~s("reason":"oldest_ms")
  end

  test "of a reading from elsewhere" do
    reading = %{state: :running, queue_size: 3, in_flight: 0}
    assert {200, _, _} = Health.response(reading, [])
    assert {503, _, _} = Health.response(reading, max_queue_size: 2)
  end

  test "says what is wrong with an option" do
    assert_raise ArgumentError, ~r/unknown option :max_size for PaymentQueue.Health/, fn ->
      Health.options!(max_size: 1)
    end

    assert_raise ArgumentError, ~r/invalid value for :max_queue_size: -1/, fn -> Health.options!(max_queue_size: -1) end
  end
end
