defmodule PaymentQueue.Nats.OutageTest do
  # The connection is down, or the server silent: what callers and reporters get, and what becomes of what a dead process held.
  use PaymentQueue.QueueCase, async: false

  alias PaymentQueue.NatsServer

  @moduletag :nats

  # So long that nothing in these tests can come from it.
  @ack_wait 600_000

  defp start(server, opts \\ []) do
    engine = {:nats, servers: [server.address], replicas: 1, ack_wait: @ack_wait}
    queue!([durability: :none, dir: nil, engine: engine] ++ opts)
  end

  defp held_by_the_dead(queue, outage) do
    {:ok, 3} = PaymentQueue.enqueue_many([1, 2, 3], queue: queue)
    holder = actor()
    assert [{1, one}, {2, _}] = Actor.run(holder, fn -> PaymentQueue.take_many(2, queue: queue) end)
    outage.()
    kill(holder)
    eventually(fn -> PaymentQueue.ack(one) == {:error, :stale_lease} end)
  end

  defp all_come_back(queue) do
    taken =
      for _ <- 1..3 do
        assert {:ok, item, lease} = PaymentQueue.take(queue: queue, timeout: 60_000)
        {item, PaymentQueue.attempt(lease), PaymentQueue.ack(lease)}
      end

    assert [{1, one, :ok}, {2, two, :ok}, {3, 1, :ok}] = Enum.sort(taken)
    assert one >= 2 and two >= 2
  end

  test "what a process held that died while the server was silent is given back when it is heard again" do
    server = NatsServer.start()
    queue = start(server)
    held_by_the_dead(queue, fn -> NatsServer.signal(server, "STOP") end)
    let_pass(500)
    NatsServer.signal(server, "CONT")
    all_come_back(queue)
  end

  test "the same when the connection was lost, and the server came back" do
    server = NatsServer.start()
    queue = start(server)
    held_by_the_dead(queue, fn -> NatsServer.kill(server) end)
    eventually(fn -> match?({503, _, _}, PaymentQueue.Health.response(queue: queue)) end)
    server |> NatsServer.start_again() |> NatsServer.await()
    all_come_back(queue)
  end

  test "without a server: refused in time, unhealthy, counted by what this node knows; with one again all is well" do
    server = NatsServer.start()
    queue = start(server, handler: telling(self()), concurrency: 2)
    :ok = PaymentQueue.enqueue(:before, queue: queue)
    assert_receive {:handled, :before}
    eventually(fn -> PaymentQueue.info(queue).settled == 1 end)
    NatsServer.kill(server)
    assert PaymentQueue.enqueue(:lost, queue: queue, timeout: 300) == {:error, :queue_unavailable}
    assert PaymentQueue.enqueue_many([:a, :b], queue: queue, timeout: 300) == {:error, :queue_unavailable, 0}
    assert {503, _, body} = PaymentQueue.Health.response(queue: queue)
    assert IO.iodata_to_binary(body) == ~s({"status":"error","reason":"queue_unavailable","queue":null})
    metrics = IO.iodata_to_binary(PaymentQueue.Prometheus.text(queues: [queue]))
    assert metrics =~ ~s(payment_queue_connected{queue="#{queue}"} 0\n)
    assert metrics =~ ~s(payment_queue_settled_total{queue="#{queue}"} 1\n)
    refute metrics =~ ~s(payment_queue_depth{queue="#{queue}"})
    assert PaymentQueue.Telemetry.emit_depth(queue) == :ok
    assert_raise RuntimeError, ~r/NATS servers did not answer/, fn -> PaymentQueue.stats(queue) end
    # Workers that die meanwhile are replaced: nothing of that asks the server.
    [worker, _] = workers(queue)
    pool = PaymentQueue.Supervisor.pool(queue)
    kill(worker)
    eventually(fn -> worker not in workers(queue) and length(workers(queue)) == 2 end)
    assert PaymentQueue.Supervisor.pool(queue) == pool
    assert PaymentQueue.drain(queue, timeout: 100) == {:error, :timeout}
    :ok = PaymentQueue.resume(queue)

    server |> NatsServer.start_again() |> NatsServer.await()
    assert PaymentQueue.enqueue(:after, queue: queue, timeout: 60_000) == :ok
    assert_receive {:handled, :after}, 60_000
    eventually(fn -> match?({200, _, _}, PaymentQueue.Health.response(queue: queue)) end)
  end

  test "a settle while the server is down is confirmed when it is back" do
    server = NatsServer.start()
    queue = start(server)
    {:ok, 2} = PaymentQueue.enqueue_many([1, 2], queue: queue)
    [{1, one}, {2, two}] = PaymentQueue.take_many(2, queue: queue)
    NatsServer.signal(server, "STOP")
    settled = for lease <- [one, two], do: Actor.cast(actor(), fn -> PaymentQueue.ack(lease) end)
    let_pass(300)
    NatsServer.signal(server, "CONT")
    for ref <- settled, do: assert_receive({^ref, :ok}, 60_000)
    assert PaymentQueue.stats(queue) == %{queue_size: 0, in_flight: 0}
  end
end
