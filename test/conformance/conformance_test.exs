# One set of laws, for every place where items can live. `:none` is the memory of this VM, `:async` and `:sync` are on disk too.
# What differs in NATS: test/nats/differences_test.exs.
for place <- [:none, :async, :sync, :nats] do
  defmodule Module.concat(PaymentQueue.ConformanceTest, place) do
    use PaymentQueue.QueueCase, async: false

    alias PaymentQueue.TelemetryListener

    if place == :nats, do: @moduletag(:nats)
    @place place

    setup_all do
      case @place do
        :none -> %{place: []}
        :nats -> %{place: [engine: {:nats, servers: [PaymentQueue.NatsServer.start().address], replicas: 1}]}
        durability -> %{place: [durability: durability, dir: scratch_dir()]}
      end
    end

    # Stated here and not by the environment, which says where the queues of other tests live.
    setup %{place: place}, do: %{start: fn opts -> queue!([durability: :none, dir: nil] ++ place ++ opts) end}

    # At a quiet moment, all that was not settled.
    defp left(queue) do
      %{queue_size: waiting, in_flight: in_flight, scheduled: scheduled} = PaymentQueue.info(queue)
      waiting + in_flight + scheduled
    end

    test "what comes out equals what went in, in its order", %{start: start} do
      queue = start.([])
      payloads = [nil, :atom, "", "binary", 42, -1.5, {:ok, %{a: [1 | 2]}}, %{amount: 1990}, :binary.copy("x", 300_000)]
      assert PaymentQueue.enqueue(hd(payloads), queue: queue) == :ok
      assert PaymentQueue.enqueue_many(tl(payloads), queue: queue) == {:ok, 8}
      assert PaymentQueue.peek(9, queue) == payloads
      assert PaymentQueue.stats(queue) == %{queue_size: 9, in_flight: 0}
      assert take_all(queue) == payloads
      assert PaymentQueue.stats(queue) == %{queue_size: 0, in_flight: 0}
      assert_conserved(queue)
    end

    test "exact bound, with any number of producers", %{start: start} do
      queue = start.(capacity: 50)
      producer = fn -> for n <- 1..20, do: PaymentQueue.enqueue(n, queue: queue) end
      results = producer |> List.duplicate(8) |> together() |> List.flatten()
      assert Enum.frequencies(results) == %{:ok => 50, {:error, :queue_full} => 110}
      assert %{rejected_full: 110} = assert_conserved(queue)
      :ok = PaymentQueue.configure(queue, capacity: 51)
      assert PaymentQueue.enqueue_many([:a, :b], queue: queue) == {:error, :queue_full, 1}
    end

    test "a payload over the bound is refused", %{start: start} do
      queue = start.(max_payload_bytes: 100)
      assert PaymentQueue.enqueue(:binary.copy("x", 101), queue: queue) == {:error, :payload_too_large}
      assert PaymentQueue.enqueue(:binary.copy("x", 90), queue: queue) == :ok
    end

    test "a lease is settled once, by any process", %{start: start} do
      queue = start.([])
      {:ok, 3} = PaymentQueue.enqueue_many([1, 2, 3], queue: queue)
      assert {:ok, 1, one} = PaymentQueue.take(queue: queue, timeout: 5_000)
      assert PaymentQueue.attempt(one) == 1
      assert Actor.run(actor(), fn -> PaymentQueue.ack(one) end) == :ok

      for settle <- [&PaymentQueue.ack/1, &PaymentQueue.nack/1, &PaymentQueue.reject(&1, :no)],
          do: assert(settle.(one) == {:error, :stale_lease})

      assert PaymentQueue.take(queue: queue, ack: one) == {:error, :stale_lease}
      assert [{2, two}, {3, three}] = PaymentQueue.take_many(5, queue: queue)
      assert PaymentQueue.ack_many([one, two, three]) == {:error, {:stale_lease, [one]}}
      assert_conserved(queue)
    end

    test "what is given back comes first, its attempt counted", %{start: start} do
      queue = start.([])
      {:ok, 3} = PaymentQueue.enqueue_many([1, 2, 3], queue: queue)
      {:ok, 1, lease} = PaymentQueue.take(queue: queue, timeout: 5_000)
      assert PaymentQueue.nack(lease) == :ok
      assert {:ok, 1, lease} = PaymentQueue.take(queue: queue, timeout: 5_000)
      assert PaymentQueue.attempt(lease) == 2
      assert {:ok, 2, lease} = PaymentQueue.take(queue: queue, ack: lease)
      assert PaymentQueue.nack(lease, delay: 500) == :ok
      assert {:ok, 3, lease} = PaymentQueue.take(queue: queue, timeout: 5_000)
      assert {:ok, 2, lease} = PaymentQueue.take(queue: queue, ack: lease, timeout: 5_000)
      assert PaymentQueue.ack(lease) == :ok
      assert_conserved(queue)
    end

    test "custody: the item of a dead process is given out again, and dead after its last attempt", %{start: start} do
      queue = start.(max_attempts: 3)
      :ok = PaymentQueue.enqueue(:poison, queue: queue)

      for attempt <- 1..3 do
        holder = actor()
        assert {:ok, :poison, lease} = Actor.run(holder, fn -> PaymentQueue.take(queue: queue, timeout: 5_000) end)
        assert PaymentQueue.attempt(lease) == attempt
        kill(holder)
        eventually(fn -> PaymentQueue.ack(lease) == {:error, :stale_lease} end)
      end

      assert [%{payload: :poison, reason: :consumer_down, attempts: 3}] = dead_letters(queue, 1)
      assert PaymentQueue.requeue_dead(queue) == {:ok, 1}
      assert {:ok, :poison, lease} = PaymentQueue.take(queue: queue, timeout: 5_000)
      assert PaymentQueue.attempt(lease) == 1
      assert PaymentQueue.ack(lease) == :ok
      assert PaymentQueue.dead_letters(queue) == []
    end

    test "what a dead process held comes back in its order", %{start: start} do
      queue = start.([])
      {:ok, 20} = PaymentQueue.enqueue_many(Enum.to_list(1..20), queue: queue)
      holder = actor()
      assert [_ | _] = Actor.run(holder, fn -> PaymentQueue.take_many(10, queue: queue) end)
      kill(holder)
      # Known to a server when none is in flight.
      eventually(fn -> PaymentQueue.stats(queue) == %{queue_size: 20, in_flight: 0} or @place == :nats end)
      taken = for _ <- 1..20, do: elem(PaymentQueue.take(queue: queue, timeout: 5_000), 1)
      assert Enum.sort(taken) == Enum.to_list(1..20)
      assert Enum.filter(taken, &(&1 <= 10)) == Enum.to_list(1..10)
    end

    test "a waiting taker is woken, one by one item", %{start: start} do
      queue = start.([])
      takers = for _ <- 1..3, do: Actor.cast(actor(), fn -> PaymentQueue.take(queue: queue, timeout: 2_000) end)
      eventually(fn -> PaymentQueue.info(queue).parked == 3 end)
      :ok = PaymentQueue.enqueue(1, queue: queue)
      answers = for ref <- takers, do: receive(do: ({^ref, answer} -> answer))
      assert [{:ok, 1, _}] = Enum.reject(answers, &(&1 == :empty))
    end

    test "a delayed item is not taken before its time", %{start: start} do
      queue = start.([])
      begin = System.monotonic_time(:millisecond)
      :ok = PaymentQueue.enqueue(:later, queue: queue, delay: 500)
      assert PaymentQueue.take(queue: queue) == :empty
      assert {:ok, :later, lease} = PaymentQueue.take(queue: queue, timeout: 5_000)
      assert System.monotonic_time(:millisecond) - begin >= 500
      assert PaymentQueue.attempt(lease) == 1
    end

    test "pause, purge, drain, flush", %{start: start} do
      queue = start.([])
      assert PaymentQueue.flush(queue) == :ok
      {:ok, 2} = PaymentQueue.enqueue_many([1, 2], queue: queue)
      :ok = PaymentQueue.pause(queue)
      assert PaymentQueue.take(queue: queue) == :empty
      assert %{state: :paused} = PaymentQueue.info(queue)
      :ok = PaymentQueue.resume(queue)
      assert PaymentQueue.drain(queue, timeout: 50) == {:error, :timeout}
      assert PaymentQueue.enqueue(3, queue: queue) == {:error, :queue_closed}
      assert PaymentQueue.purge(queue) == {:ok, 2}
      assert PaymentQueue.drain(queue) == :ok
      :ok = PaymentQueue.resume(queue)
      assert PaymentQueue.enqueue(3, queue: queue) == :ok
      assert {:ok, 3, _} = PaymentQueue.dequeue(queue: queue, timeout: 5_000)
      assert left(queue) == 0
    end

    test "workers: every outcome of a handler", %{start: start} do
      test = self()

      handler = fn
        {:error, n} -> send(test, {:tried, n}) && {:error, :busy}
        {:cancel, n} -> {:cancel, n}
        {:die, _} -> Process.exit(self(), :kill)
        {:raise, _} -> raise "no"
        {:ok, _} -> :ok
      end

      queue = start.(handler: handler, concurrency: 4, max_attempts: 2, backoff: [min: 1, max: 2])
      payloads = for n <- 1..5, kind <- [:ok, :error, :cancel, :die, :raise], do: {kind, n}
      assert PaymentQueue.enqueue_many(payloads, queue: queue) == {:ok, 25}
      dead = dead_letters(queue, 20)
      assert Enum.sort(Enum.map(dead, & &1.payload)) == Enum.sort(for {kind, _} = p when kind != :ok <- payloads, do: p)
      assert Enum.frequencies_by(dead, & &1.attempts) == %{1 => 5, 2 => 15}
      eventually(fn -> PaymentQueue.info(queue).settled == 5 and left(queue) == 0 end)
      assert_conserved(queue)
    end

    test "workers: a handler that takes too long is killed, its item tried again, then dead", %{start: start} do
      test = self()

      handler = fn item ->
        send(test, {:began, item})
        receive do: (:never -> :ok)
      end

      queue = start.(handler: handler, concurrency: 1, handler_timeout: 300, max_attempts: 2, backoff: [min: 1, max: 2])
      :ok = PaymentQueue.enqueue(:slow, queue: queue)
      assert [%{payload: :slow, reason: :timeout, attempts: 2}] = dead_letters(queue, 1)
      for _ <- 1..2, do: assert_received({:began, :slow})
      eventually(fn -> left(queue) == 0 end)
    end

    test "workers: batches", %{start: start} do
      test = self()

      handler = fn items ->
        send(test, {:batch, items})
        Enum.map(items, &if(&1 == 7, do: {:cancel, :unlucky}, else: :ok))
      end

      queue = start.(handler: handler, concurrency: 2, batch: [size: 4, wait: 20])
      {:ok, 10} = PaymentQueue.enqueue_many(Enum.to_list(1..10), queue: queue)
      assert [%{payload: 7, reason: :unlucky}] = dead_letters(queue, 1)
      eventually(fn -> PaymentQueue.info(queue).settled == 9 and left(queue) == 0 end)
      assert Enum.sort(batches([])) == Enum.to_list(1..10)
    end

    defp batches(seen) do
      receive do
        {:batch, items} ->
          assert length(items) <= 4
          batches(items ++ seen)
      after
        0 -> seen
      end
    end

    test "workers: their number changes while they work", %{start: start} do
      queue = start.(handler: asking(self()), concurrency: 0)
      {:ok, 2} = PaymentQueue.enqueue_many([1, 2], queue: queue)
      assert PaymentQueue.scale(queue, 2) == :ok
      assert_receive {:handling, one, first}
      assert_receive {:handling, two, second}
      assert Enum.sort([first, second]) == [1, 2]
      assert PaymentQueue.scale(queue, 0) == :ok
      for worker <- [one, two], do: send(worker, {:return, :ok})
      eventually(fn -> workers(queue) == [] end)
      :ok = PaymentQueue.enqueue(3, queue: queue)
      assert {:ok, 3, lease} = PaymentQueue.take(queue: queue, timeout: 5_000)
      assert PaymentQueue.ack(lease) == :ok
      assert_conserved(queue)
    end

    test "workers: a snoozed item comes again", %{start: start} do
      test = self()
      handler = fn item -> if send(test, {:handled, item}) && first?(item), do: {:snooze, 20}, else: :ok end
      queue = start.(handler: handler, concurrency: 1)
      :ok = PaymentQueue.enqueue(:sleepy, queue: queue)
      for _ <- 1..2, do: assert_receive({:handled, :sleepy})
      eventually(fn -> PaymentQueue.info(queue).settled == 1 and left(queue) == 0 end)
    end

    defp first?(item) do
      seen? = :persistent_term.get({__MODULE__, item}, false)
      :persistent_term.put({__MODULE__, item}, true)
      not seen?
    end

    @tag :telemetry
    test "workers: a span for each item and each batch, with the time it waited", %{start: start} do
      queue =
        TelemetryListener.listen(start.(handler: fn n -> if n == 2, do: {:error, :no}, else: :ok end, max_attempts: 1))

      {:ok, 2} = PaymentQueue.enqueue_many([1, 2], queue: queue)
      assert_receive {[:item, :stop], %{queue_time: waited, duration: _}, %{state: :success, attempt: 1}}
      assert waited >= 0
      assert_receive {[:item, :exception], %{queue_time: _}, %{state: :discard, reason: :no}}
      batch = TelemetryListener.listen(start.(handler: fn _ -> :ok end, batch: [size: 2], concurrency: 1))
      {:ok, 2} = PaymentQueue.enqueue_many([1, 2], queue: batch)
      assert_receive {[:batch, :stop], %{queue_time: _, success: _}, _}
    end

    @tag :telemetry
    test "its depth is an event, and so is a refusal", %{start: start} do
      queue = TelemetryListener.listen(start.(capacity: 1, telemetry: [interval: 50]))
      :ok = PaymentQueue.enqueue(1, queue: queue)
      assert PaymentQueue.enqueue(2, queue: queue) == {:error, :queue_full}
      assert_receive {[:enqueue, :refused], %{count: 1}, %{reason: :queue_full}}
      assert_receive {[:queue, :depth], %{queue_size: 1, enqueued: 1, capacity: 1}, %{state: :running}}
      {:ok, 1, lease} = PaymentQueue.take(queue: queue, timeout: 5_000)
      :ok = PaymentQueue.reject(lease, :no)
      assert_receive {[:queue, :dead_letter], %{count: 1}, _}
      assert PaymentQueue.Telemetry.emit_depth(queue) == :ok
    end

    @tag :broadway
    test "Broadway: what succeeds is settled, what fails is a dead letter", %{start: start} do
      queue = start.(max_attempts: 1)
      handle = fn message -> if message.data == 3, do: raise("no"), else: message end
      {:ok, 4} = PaymentQueue.enqueue_many([1, 2, 3, 4], queue: queue)
      PaymentQueue.Pipeline.pipeline!(queue, handle: handle)
      assert [%{payload: 3, attempts: 1}] = dead_letters(queue, 1)
      :ok = PaymentQueue.enqueue(5, queue: queue)
      eventually(fn -> PaymentQueue.info(queue).settled == 4 and left(queue) == 0 end)
      assert_conserved(queue)
    end

    test "an orderly stop lets handlers finish and closes the queue; the next start opens it", %{
      start: start,
      place: place
    } do
      queue = start.(handler: telling(self()), concurrency: 1, shutdown: 5_000)
      :ok = PaymentQueue.enqueue(1, queue: queue)
      assert_receive {:handled, 1}
      stop_supervised!(queue)
      assert PaymentQueue.enqueue(2, queue: queue) == {:error, :queue_closed}
      start_supervised!({PaymentQueue, [name: queue] ++ place}, id: make_ref())
      assert PaymentQueue.enqueue(2, queue: queue) == :ok
      assert {:ok, 2, _} = PaymentQueue.take(queue: queue, timeout: 5_000)
    end

    test "health and metrics know the queue", %{start: start} do
      queue = start.([])
      {:ok, 2} = PaymentQueue.enqueue_many([1, 2], queue: queue)
      {:ok, 1, _lease} = PaymentQueue.take(queue: queue, timeout: 5_000)
      assert {200, _, body} = PaymentQueue.Health.response(queue: queue, max_queue_size: 1)
      assert IO.iodata_to_binary(body) == ~s({"status":"ok","queue":{"queue_size":1,"in_flight":1}})
      assert {503, _, body} = PaymentQueue.Health.response(queue: queue, max_queue_size: 0)
      assert IO.iodata_to_binary(body) =~ ~s("reason":"queue_size")
      metrics = IO.iodata_to_binary(PaymentQueue.Prometheus.text())

      for {metric, value} <- [enqueued_total: 2, depth: 1, in_flight: 1, dead_letters: 0, capacity_items: 10_000],
          do: assert(metrics =~ ~s(payment_queue_#{metric}{queue="#{queue}"} #{value}\n))

      assert metrics =~ ~s(payment_queue_state{queue="#{queue}",state="running"} 1\n)
      assert PaymentQueue.drain(queue, timeout: 0) == {:error, :timeout}
      assert {503, _, body} = PaymentQueue.Health.response(queue: queue)
      assert IO.iodata_to_binary(body) =~ ~s("reason":"queue_closed")
    end

    test "survival: a killed tree loses nothing, and the start after it finds the queue", %{start: start, place: place} do
      queue = start.([])
      {:ok, 2} = PaymentQueue.enqueue_many([1, 2], queue: queue)
      {:ok, 1, lease} = PaymentQueue.take(queue: queue, timeout: 5_000)
      kill(tree(queue))
      assert PaymentQueue.enqueue(3, queue: queue) == :ok
      start_supervised!({PaymentQueue, [name: queue] ++ place}, id: make_ref())
      assert PaymentQueue.ack(lease) == :ok
      assert take_all(queue) == [2, 3]
      assert queue in PaymentQueue.queues()
    end
  end
end
