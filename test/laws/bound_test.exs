defmodule PaymentQueue.Laws.BoundTest do
  # Exact bound: accepted and not yet taken never exceeds the capacity, nor its bytes max_bytes.
  use PaymentQueue.QueueCase, async: true

  defp accepted(results), do: results |> List.flatten() |> Enum.count(&(&1 == :ok))

  test "many producers at once: exactly the capacity gets in" do
    for capacity <- [1, 7, 1_000] do
      queue = queue!(capacity: capacity)
      producer = fn -> for n <- 1..400, do: PaymentQueue.enqueue(n, queue: queue) end
      assert 16 |> copies(producer) |> together() |> accepted() == capacity
      assert PaymentQueue.stats(queue).queue_size == capacity
      assert PaymentQueue.info(queue).rejected_full == 16 * 400 - capacity
    end
  end

  test "enqueue_many at once: exactly the capacity gets in, each a prefix" do
    queue = queue!(capacity: 5_000)

    results =
      together(
        for p <- 1..8 do
          fn -> PaymentQueue.enqueue_many(for(n <- 1..1_000, do: {p, n}), queue: queue) end
        end
      )

    counts =
      for result <- results do
        case result do
          {:ok, 1_000} -> 1_000
          {:error, :queue_full, n} when n < 1_000 -> n
        end
      end

    assert Enum.sum(counts) == 5_000
    payloads = take_all(queue)

    for {count, p} <- Enum.with_index(counts, 1),
        do: assert(for({^p, n} <- payloads, do: n) == Enum.take(1..1_000, count))
  end

  test "bytes: equal payloads fill max_bytes exactly" do
    queue = queue!(max_bytes: 1_000 * (100 + own_bytes()))
    payload = :binary.copy("x", 100)
    producer = fn -> for _ <- 1..200, do: PaymentQueue.enqueue(payload, queue: queue) end
    assert 8 |> copies(producer) |> together() |> accepted() == 1_000
    assert PaymentQueue.info(queue).bytes == 1_000 * (100 + own_bytes())
  end

  test "bytes: payloads of all sizes, large ones included, never go over" do
    queue = queue!(max_bytes: 1_000_000, max_payload_bytes: 200_000)

    results =
      together(
        for seed <- 1..8 do
          fn ->
            :rand.seed(:exsss, seed)

            for _ <- 1..100 do
              size = Enum.random([1, 64, 1_000, 30_000, 70_000, 200_000])
              {PaymentQueue.enqueue(:binary.copy("x", size), queue: queue), size}
            end
          end
        end
      )

    in_queue = for {:ok, size} <- List.flatten(results), do: size + own_bytes()
    assert PaymentQueue.info(queue).bytes == Enum.sum(in_queue)
    assert Enum.sum(in_queue) <= 1_000_000
    # Nothing was refused that had fitted: at the end even the smallest has no room.
    fill(queue)
    assert PaymentQueue.info(queue).bytes in (1_000_000 - own_bytes())..1_000_000
  end

  defp fill(queue) do
    if PaymentQueue.enqueue("x", queue: queue) == :ok, do: fill(queue)
  end

  test "with takers at work the bound holds at every moment, for every observer" do
    queue = queue!(capacity: 50)
    observer = actor()

    watching =
      Actor.cast(observer, fn ->
        Enum.reduce(1..20_000, 0, fn _, max -> max(max, PaymentQueue.stats(queue).queue_size) end)
      end)

    takers = for _ <- 1..4, do: spawn_link(fn -> take_loop(queue, nil) end)
    producers = copies(4, fn -> for n <- 1..5_000, do: PaymentQueue.enqueue(n, queue: queue) end)
    accepted = producers |> together() |> accepted()
    assert_receive {^watching, max}, 30_000
    assert max <= 50
    eventually(fn -> PaymentQueue.info(queue).settled == accepted end)
    Enum.each(takers, &Process.unlink/1)
    Enum.each(takers, &kill/1)
    assert %{enqueued: ^accepted} = assert_conserved(queue)
  end

  defp take_loop(queue, last) do
    opts = if last, do: [queue: queue, ack: last, timeout: :infinity], else: [queue: queue, timeout: :infinity]
    {:ok, _, lease} = PaymentQueue.take(opts)
    take_loop(queue, lease)
  end

  test "a changed capacity is exact at once" do
    queue = queue!(capacity: 10)
    assert {:error, :queue_full, 10} = PaymentQueue.enqueue_many(Enum.to_list(1..99), queue: queue)
    :ok = PaymentQueue.configure(queue, capacity: 25)
    producer = fn -> for n <- 1..50, do: PaymentQueue.enqueue(n, queue: queue) end
    assert 8 |> copies(producer) |> together() |> accepted() == 15
  end

  test "redeliveries are never refused, however full the queue is" do
    queue = queue!(capacity: 2)
    {:ok, 2} = PaymentQueue.enqueue_many([1, 2], queue: queue)
    [{1, one}, {2, two}] = PaymentQueue.take_many(2, queue: queue)
    {:ok, 2} = PaymentQueue.enqueue_many([3, 4], queue: queue)
    assert PaymentQueue.nack(one) == :ok
    assert PaymentQueue.nack(two) == :ok
    assert PaymentQueue.enqueue(5, queue: queue) == {:error, :queue_full}
    assert take_all(queue) == [1, 2, 3, 4]
  end

  defp copies(n, fun), do: List.duplicate(fun, n)
end
