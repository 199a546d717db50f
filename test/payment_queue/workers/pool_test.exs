defmodule PaymentQueue.Workers.PoolTest do
  use PaymentQueue.QueueCase, async: true

  import ExUnit.CaptureLog

  defp start(opts) do
    defaults = [handler: asking(self()), concurrency: 1, backoff: [min: 1, max: 1, jitter: 0]]
    queue!(Keyword.merge(defaults, opts))
  end

  describe "scale" do
    test "starts and stops workers; a running handler finishes first" do
      queue = start(concurrency: 1)
      assert length(workers(queue)) == 1
      assert PaymentQueue.scale(queue, 3) == :ok
      assert length(workers(queue)) == 3
      {:ok, 3} = PaymentQueue.enqueue_many([1, 2, 3], queue: queue)

      busy =
        for n <- 1..3 do
          assert_receive {:handling, worker, ^n}
          worker
        end

      assert PaymentQueue.scale(queue, 0) == :ok
      :ok = PaymentQueue.enqueue(4, queue: queue)
      monitors = Enum.map(busy, &Process.monitor/1)
      Enum.each(busy, &send(&1, {:return, :ok}))
      for monitor <- monitors, do: assert_receive({:DOWN, ^monitor, _, _, :shutdown})
      assert %{settled: 3, queue_size: 1} = assert_conserved(queue)
      eventually(fn -> workers(queue) == [] end)
      assert PaymentQueue.scale(queue, 1) == :ok
      assert_receive {:handling, worker, 4}
      send(worker, {:return, :ok})
    end

    test "without workers" do
      assert PaymentQueue.scale(queue!(), 2) == {:error, :no_workers}
    end

    test "an item never goes to a worker that stops while parked" do
      queue = start(concurrency: 8, handler: fn _ -> :ok end)

      for n <- 1..50 do
        task = Task.async(fn -> PaymentQueue.scale(queue, rem(n, 2) * 8) end)
        {:ok, 20} = PaymentQueue.enqueue_many(Enum.to_list(1..20), queue: queue)
        assert Task.await(task) == :ok
      end

      :ok = PaymentQueue.scale(queue, 2)
      assert PaymentQueue.drain(queue, timeout: 5_000) == :ok
      assert %{settled: 1_000, dead: 0} = assert_conserved(queue)
    end
  end

  describe "a crash-looping handler" do
    test "takes nothing down and loses nothing" do
      queue = start(handler: fn _ -> Process.exit(self(), :kill) end, concurrency: 4, max_attempts: 5)
      tree = tree(queue)
      pool = PaymentQueue.Supervisor.pool(queue)
      {:ok, 10} = PaymentQueue.enqueue_many(Enum.to_list(1..10), queue: queue)
      eventually(fn -> PaymentQueue.info(queue).redelivered >= 10 end)
      assert Process.alive?(tree) and Process.alive?(pool)
      # New workers each time, because the growing delays of the old ones would make this test slow.
      eventually(fn ->
        PaymentQueue.scale(queue, 0)
        PaymentQueue.scale(queue, 4)
        PaymentQueue.info(queue).dead == 10
      end)

      assert Enum.sort(Enum.map(PaymentQueue.dead_letters(queue), & &1.payload)) == Enum.to_list(1..10)
      assert Process.alive?(tree) and PaymentQueue.Supervisor.pool(queue) == pool
      assert_conserved(queue)
    end

    test "is replaced at once, then with growing delays" do
      queue = start(handler: fn _ -> Process.exit(self(), :kill) end, concurrency: 1, max_attempts: 100)
      :ok = PaymentQueue.enqueue(:poison, queue: queue)
      pool = PaymentQueue.Supervisor.pool(queue)
      eventually(fn -> match?([deaths] when deaths >= 4, Map.values(:sys.get_state(pool).pending)) end)
      assert workers(queue) == []
      assert PaymentQueue.scale(queue, 0) == :ok
      assert :sys.get_state(pool).pending == %{}
      # The pool may hear of the last death before the item of the dead is back.
      eventually(fn -> PaymentQueue.stats(queue) == %{queue_size: 1, in_flight: 0} end)
    end
  end

  test "a killed worker is replaced at once as long as the queue settles items" do
    queue = start([])
    pool = PaymentQueue.Supervisor.pool(queue)

    for n <- 1..6 do
      :ok = PaymentQueue.enqueue(n, queue: queue)
      assert_receive {:handling, worker, ^n}
      send(worker, {:return, :ok})
      eventually(fn -> PaymentQueue.info(queue).settled == n end)
      Process.exit(worker, :kill)
      eventually(fn -> not is_map_key(:sys.get_state(pool).workers, worker) end)
      assert %{pending: pending, workers: workers} = :sys.get_state(pool)
      assert {pending, map_size(workers)} == {%{}, 1}
    end
  end

  describe "handler_timeout" do
    test "kills the worker, and the item is tried again" do
      queue = start(handler_timeout: 200, max_attempts: 2)
      :ok = PaymentQueue.enqueue(:slow, queue: queue)

      log =
        capture_log(fn ->
          assert_receive {:handling, first, :slow}
          monitor = Process.monitor(first)
          # `:noproc`: on a slow machine the 200 ms are over before it is monitored.
          assert_receive {:DOWN, ^monitor, _, _, reason} when reason in [:killed, :noproc]
          assert_receive {:handling, second, :slow}
          refute first == second
          eventually(fn -> PaymentQueue.info(queue).dead == 1 end)
          # The pool logs after the kill; it answers this after that.
          _ = :sys.get_state(PaymentQueue.Supervisor.pool(queue))
        end)

      assert [first, second] = log |> String.split("\n") |> Enum.filter(&(&1 =~ "PaymentQueue #{inspect(queue)}:"))
      assert first =~ "attempt 1 took over 200 ms, tried again in 1 ms"
      assert second =~ "attempt 2 took over 200 ms for the last time, now a dead letter"
      assert [%{reason: :timeout, attempts: 2}] = PaymentQueue.dead_letters(queue)
      assert_conserved(queue)
    end

    test "does not touch a handler that is in time" do
      queue = start(handler_timeout: 5_000)
      {:ok, 2} = PaymentQueue.enqueue_many([1, 2], queue: queue)
      assert_receive {:handling, worker, 1}
      send(worker, {:return, :ok})
      assert_receive {:handling, ^worker, 2}
      send(worker, {:return, {:cancel, :no}})
      eventually(fn -> PaymentQueue.info(queue).parked == 1 end)
      assert Process.alive?(worker)
    end

    test "a message for a handler that has just finished does nothing" do
      queue = start(handler_timeout: 60_000)
      {:ok, 2} = PaymentQueue.enqueue_many([1, 2], queue: queue)
      pool = PaymentQueue.Supervisor.pool(queue)
      assert_receive {:handling, worker, 1}
      # Which lease the worker holds is its secret; that one is settled is all that counts here.
      {:ok, 2, lease} = PaymentQueue.take(queue: queue)
      :ok = PaymentQueue.ack(lease)
      send(pool, {:handler_timeout, worker, [lease], nil})
      _ = :sys.get_state(pool)
      send(worker, {:return, :ok})
      eventually(fn -> PaymentQueue.info(queue).settled == 2 end)
      assert Process.alive?(worker)
    end

    test "a timeout storm: every run that ended in time counts once, nothing is lost" do
      # Handlers that take about as long as they may: watchdog and settlement race.
      handler = fn _ -> let_pass(Enum.random(0..4)) end

      queue = start(handler: handler, handler_timeout: 2, concurrency: 8, max_attempts: 1_000)
      {:ok, 300} = PaymentQueue.enqueue_many(Enum.to_list(1..300), queue: queue)
      assert PaymentQueue.drain(queue, timeout: 20_000) == :ok
      assert %{settled: 300, enqueued: 300, dead: 0} = assert_conserved(queue)
    end
  end

  test "pause stops handing out while workers run, resume goes on" do
    queue = start([])
    {:ok, 2} = PaymentQueue.enqueue_many([1, 2], queue: queue)
    assert_receive {:handling, worker, 1}
    :ok = PaymentQueue.pause(queue)
    send(worker, {:return, :ok})
    eventually(fn -> PaymentQueue.info(queue).parked == 1 end)
    assert PaymentQueue.stats(queue) == %{queue_size: 1, in_flight: 0}
    :ok = PaymentQueue.resume(queue)
    assert_receive {:handling, ^worker, 2}
    send(worker, {:return, :ok})
  end
end
