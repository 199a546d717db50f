# One set of laws, for every place where items can live. `:none` is the memory of this VM.
for place <- [:none, :nats] do
  defmodule Module.concat(PaymentQueue.ConformanceTest, place) do
    use PaymentQueue.QueueCase, async: false

    @moduletag place
    @place place

    setup_all do
      case @place do
        :none -> %{place: []}
        :nats -> %{place: [engine: {:nats, servers: [PaymentQueue.NatsServer.start().address], replicas: 1}]}
      end
    end

    setup %{place: place}, do: %{start: fn opts -> queue!(place ++ opts) end}

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

    test "a lease is settled once, by any process", %{start: start} do
      queue = start.([])
      {:ok, 3} = PaymentQueue.enqueue_many([1, 2, 3], queue: queue)
      assert {:ok, 1, one} = PaymentQueue.take(queue: queue)
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
      {:ok, 1, lease} = PaymentQueue.take(queue: queue)
      assert PaymentQueue.nack(lease) == :ok
      assert {:ok, 1, lease} = PaymentQueue.take(queue: queue, timeout: 5_000)
      assert PaymentQueue.attempt(lease) == 2
      assert {:ok, 2, lease} = PaymentQueue.take(queue: queue, ack: lease)
      assert PaymentQueue.nack(lease, delay: 50) == :ok
      assert {:ok, 3, lease} = PaymentQueue.take(queue: queue)
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
      assert {:ok, :poison, lease} = PaymentQueue.take(queue: queue)
      assert PaymentQueue.attempt(lease) == 1
      assert PaymentQueue.ack(lease) == :ok
      assert PaymentQueue.dead_letters(queue) == []
    end

    test "a waiting taker is woken, one by one item", %{start: start} do
      queue = start.([])
      takers = for _ <- 1..3, do: Actor.cast(actor(), fn -> PaymentQueue.take(queue: queue, timeout: 300) end)
      eventually(fn -> PaymentQueue.info(queue).parked == 3 end)
      :ok = PaymentQueue.enqueue(1, queue: queue)
      answers = for ref <- takers, do: receive(do: ({^ref, answer} -> answer))
      assert [{:ok, 1, _}] = Enum.reject(answers, &(&1 == :empty))
    end

    test "a delayed item is not taken before its time", %{start: start} do
      queue = start.([])
      begin = System.monotonic_time(:millisecond)
      :ok = PaymentQueue.enqueue(:later, queue: queue, delay: 200)
      assert PaymentQueue.take(queue: queue) == :empty
      assert {:ok, :later, lease} = PaymentQueue.take(queue: queue, timeout: 5_000)
      assert System.monotonic_time(:millisecond) - begin >= 195
      assert PaymentQueue.attempt(lease) == 1
    end

    test "pause, purge, drain", %{start: start} do
      queue = start.([])
      {:ok, 2} = PaymentQueue.enqueue_many([1, 2], queue: queue)
      :ok = PaymentQueue.pause(queue)
      assert PaymentQueue.take(queue: queue) == :empty
      :ok = PaymentQueue.resume(queue)
      assert PaymentQueue.drain(queue, timeout: 50) == {:error, :timeout}
      assert PaymentQueue.enqueue(3, queue: queue) == {:error, :queue_closed}
      assert PaymentQueue.purge(queue) == {:ok, 2}
      assert PaymentQueue.drain(queue) == :ok
      :ok = PaymentQueue.resume(queue)
      assert PaymentQueue.enqueue(3, queue: queue) == :ok
      assert {:ok, 3, _} = PaymentQueue.dequeue(queue: queue)
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

    test "survival: a killed tree loses nothing, and the start after it finds the queue", %{start: start, place: place} do
      queue = start.([])
      {:ok, 2} = PaymentQueue.enqueue_many([1, 2], queue: queue)
      {:ok, 1, lease} = PaymentQueue.take(queue: queue)
      kill(tree(queue))
      assert PaymentQueue.enqueue(3, queue: queue) == :ok
      start_supervised!({PaymentQueue, [name: queue] ++ place}, id: make_ref())
      assert PaymentQueue.ack(lease) == :ok
      assert take_all(queue) == [2, 3]
      assert queue in PaymentQueue.queues()
    end
  end
end
