defmodule PaymentQueue.Laws.WakingTest do
  # No polling: a parked taker costs nothing and is woken by the enqueue itself; no wake-up is lost, one item wakes one.
  use PaymentQueue.QueueCase, async: true

  defp parked(queue, n), do: eventually(fn -> PaymentQueue.info(queue).parked == n end)

  test "parked takers, workers and drainers don't run while nothing happens" do
    queue = queue!(handler: fn _ -> :ok end, concurrency: 4)
    batches = queue!(handler: fn _ -> :ok end, concurrency: 4, batch: [size: 10, wait: 5])
    idle = queue!()
    :ok = PaymentQueue.enqueue(:later, queue: idle, delay: 600_000)

    takers = for _ <- 1..20, do: actor()
    for taker <- takers, do: Actor.cast(taker, fn -> PaymentQueue.take(queue: idle, timeout: :infinity) end)
    drainer = actor()
    Actor.cast(drainer, fn -> PaymentQueue.drain(idle, timeout: :infinity) end)
    parked(queue, 4)
    parked(batches, 4)
    parked(idle, 20)
    eventually(fn -> PaymentQueue.info(idle).state == :closed end)

    everybody = [drainer | takers] ++ workers(queue) ++ workers(batches)
    assert length(everybody) == 29
    eventually(fn -> Enum.all?(everybody, &(Process.info(&1, :status) == {:status, :waiting})) end)

    # Looking costs the one that is looked at some reductions itself. Whoever polls, even ten times a second, needs more,
    # and in every window; the first may still see the last steps on the way to being parked.
    assert Enum.any?(1..3, fn _ -> growth(everybody, 500) <= 30 end)
  end

  test "one item wakes one taker, the one that waits longest" do
    queue = queue!()

    refs =
      for n <- 1..10 do
        ref = Actor.cast(actor(), fn -> PaymentQueue.take(queue: queue, timeout: :infinity) end)
        parked(queue, n)
        ref
      end

    for {ref, n} <- Enum.with_index(refs, 1) do
      :ok = PaymentQueue.enqueue(n, queue: queue)
      assert_receive {^ref, {:ok, ^n, _}}
      assert PaymentQueue.info(queue).parked == 10 - n
    end

    refute_received {_, {:ok, _, _}}
  end

  test "enqueue_many wakes as many as there are items" do
    queue = queue!()
    for _ <- 1..150, do: Actor.cast(actor(), fn -> PaymentQueue.take(queue: queue, timeout: :infinity) end)
    parked(queue, 150)
    {:ok, 130} = PaymentQueue.enqueue_many(Enum.to_list(1..130), queue: queue)
    for n <- 1..130, do: assert_receive({_, {:ok, ^n, _}})
    parked(queue, 20)
    assert PaymentQueue.stats(queue) == %{queue_size: 0, in_flight: 130}
  end

  test "resume and a due delay wake, too" do
    queue = queue!()
    :ok = PaymentQueue.pause(queue)
    {:ok, 3} = PaymentQueue.enqueue_many([1, 2, 3], queue: queue)
    for _ <- 1..4, do: Actor.cast(actor(), fn -> PaymentQueue.take(queue: queue, timeout: :infinity) end)
    parked(queue, 4)
    :ok = PaymentQueue.resume(queue)
    for _ <- 1..3, do: assert_receive({_, {:ok, _, _}})
    parked(queue, 1)
    :ok = PaymentQueue.enqueue(4, queue: queue, delay: 10)
    assert_receive {_, {:ok, 4, _}}
  end

  test "takers whose time runs out while items come in: each item reaches one of them" do
    queue = queue!(capacity: 100_000)
    n = 4_000

    producers =
      for p <- 0..1 do
        fn ->
          for i <- 1..n do
            :ok = PaymentQueue.enqueue({p, i}, queue: queue)
            if rem(i, 20) == 0, do: let_pass(Enum.random(0..2))
          end

          []
        end
      end

    takers = for _ <- 1..8, do: fn -> take_some(queue, 2 * n, []) end
    taken = (producers ++ takers) |> together() |> Enum.concat()
    assert Enum.sort(taken) == for(p <- 0..1, i <- 1..n, do: {p, i})
    assert %{settled: settled, parked: 0, in_flight: 0} = assert_conserved(queue)
    assert settled == 2 * n
  end

  # Until everything was settled by somebody; short timeouts, so that leaving and being woken race.
  defp take_some(queue, total, acc) do
    case PaymentQueue.take(queue: queue, timeout: Enum.random(0..2)) do
      {:ok, item, lease} ->
        :ok = PaymentQueue.ack(lease)
        take_some(queue, total, [item | acc])

      :empty ->
        if PaymentQueue.info(queue).settled == total, do: acc, else: take_some(queue, total, acc)
    end
  end

  test "parked takers that are killed while items come in lose none" do
    queue = queue!(capacity: 100_000, max_attempts: 65_535)

    killer =
      spawn_link(fn ->
        Stream.repeatedly(fn ->
          takers = for _ <- 1..10, do: spawn(fn -> PaymentQueue.take(queue: queue, timeout: :infinity) end)
          let_pass(1)
          Enum.each(takers, &Process.exit(&1, :kill))
        end)
        |> Stream.run()
      end)

    for i <- 1..3_000 do
      :ok = PaymentQueue.enqueue(i, queue: queue)
      if rem(i, 30) == 0, do: let_pass(1)
    end

    Process.unlink(killer)
    kill(killer)
    # The last ten takers may be alive, parked or holding; they get nothing of what follows but their own.
    left = collect(queue, 3_000, MapSet.new())
    assert MapSet.size(left) == 3_000
  end

  # Takes and settles until each item was seen. What the last takers hold or are given comes back as they die or end.
  defp collect(queue, n, seen) do
    if MapSet.size(seen) == n do
      seen
    else
      case PaymentQueue.take(queue: queue, timeout: 5_000) do
        {:ok, item, lease} ->
          :ok = PaymentQueue.ack(lease)
          collect(queue, n, MapSet.put(seen, item))

        :empty ->
          seen
      end
    end
  end
end
