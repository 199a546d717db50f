defmodule PaymentQueue.Laws.PartitionTest do
  # Partitions: the items of one are handed out in the order of acceptance and never two at once, whatever becomes of the one
  # before; those of others, and those without, do not wait for them. What waits counts towards the bound, and leaves nothing behind.
  use PaymentQueue.QueueCase, async: true

  @hour 3_600_000

  # Payloads are `{partition, number}`.
  defp put({partition, _} = item, queue, opts \\ []),
    do: PaymentQueue.enqueue(item, [queue: queue, partition: partition] ++ opts)

  defp queue_of!(items, opts \\ []) do
    queue = queue!(opts)
    for item <- items, do: :ok = put(item, queue)
    queue
  end

  defp take!(queue, opts \\ []) do
    {:ok, item, lease} = PaymentQueue.take([queue: queue] ++ opts)
    {item, lease}
  end

  test "one of each partition at a time, in the order of acceptance, by every way out" do
    queue = queue_of!(a: 1, a: 2, b: 1, a: 3, b: 2, b: 3)
    assert [{{:a, 1}, a}, {{:b, 1}, b}] = PaymentQueue.take_many(10, queue: queue)
    assert PaymentQueue.take(queue: queue) == :empty
    assert PaymentQueue.dequeue(queue: queue) == :empty
    assert %{queue_size: 4, held: 4, in_flight: 2} = assert_conserved(queue)
    assert {{:b, 2}, b} = take!(queue, ack: b)
    :ok = PaymentQueue.ack(a)
    # Settled as it is taken, so the next may go.
    assert {:ok, {:a, 2}, _} = PaymentQueue.dequeue(queue: queue)
    assert {:ok, {:a, 3}, _} = PaymentQueue.dequeue(queue: queue)
    assert PaymentQueue.ack_many([b]) == :ok
    assert take_all(queue) == [b: 3]
    assert %{held: 0} = assert_conserved(queue)
  end

  test "those without a partition, and of others, pass by one that waits" do
    queue = queue_of!(a: 1, a: 2)
    {:ok, 2} = PaymentQueue.enqueue_many([:x, :y], queue: queue)
    :ok = put({:b, 1}, queue)
    assert [{{:a, 1}, _}, {:x, _}, {:y, _}, {{:b, 1}, _}] = PaymentQueue.take_many(10, queue: queue)
  end

  test "one that waited goes at its age, before what is younger" do
    queue = queue_of!(a: 1, a: 2)
    {{:a, 1}, lease} = take!(queue)
    {:ok, 2} = PaymentQueue.enqueue_many([:x, :y], queue: queue)
    assert {:x, _} = take!(queue)
    :ok = PaymentQueue.ack(lease)
    assert [{:a, 2}, :y] = PaymentQueue.peek(9, queue)
    assert take_all(queue) == [{:a, 2}, :y]
  end

  test "one that comes back, at once or later, keeps its partition waiting" do
    queue = queue_of!(a: 1, a: 2)
    {{:a, 1}, lease} = take!(queue)
    :ok = PaymentQueue.nack(lease)
    {{:a, 1}, again} = take!(queue)
    :ok = PaymentQueue.nack(again, delay: @hour)
    assert PaymentQueue.take(queue: queue) == :empty
    assert %{queue_size: 1, scheduled: 1} = assert_conserved(queue)
    assert PaymentQueue.purge(queue) == {:ok, 2}
    assert %{queue_size: 0, scheduled: 0, held: 0} = assert_conserved(queue)
  end

  test "its holder's death brings the same item, not the next" do
    queue = queue_of!(a: 1, a: 2)
    holder = actor()
    {:ok, {:a, 1}, stale} = Actor.run(holder, fn -> PaymentQueue.take(queue: queue) end)
    kill(holder)
    assert {{:a, 1}, lease} = take!(queue, timeout: 5_000)
    assert PaymentQueue.ack(stale) == {:error, :stale_lease}
    assert PaymentQueue.take(queue: queue) == :empty
    :ok = PaymentQueue.ack(lease)
    assert take_all(queue) == [a: 2]
  end

  test "a dead letter lets the next go, and comes back behind the last" do
    queue = queue_of!([a: 1, a: 2, a: 3], max_attempts: 2)
    {{:a, 1}, first} = take!(queue)
    :ok = PaymentQueue.reject(first, :declined)
    {{:a, 2}, second} = take!(queue)
    assert PaymentQueue.requeue_dead(queue) == {:ok, 1}
    :ok = PaymentQueue.nack(second)
    {{:a, 2}, second} = take!(queue)
    :ok = PaymentQueue.nack(second)
    assert take_all(queue) == [a: 3, a: 1]
    assert %{dead: 1} = assert_conserved(queue)
  end

  test "the end of one wakes a taker that is parked, however it ends" do
    queue = queue_of!(for n <- 1..6, do: {:a, n})
    {_, lease} = take!(queue)
    taker = actor()

    ends = [
      &PaymentQueue.ack/1,
      &PaymentQueue.ack_many([&1]),
      &PaymentQueue.reject(&1, :declined),
      &PaymentQueue.nack/1
    ]

    for {settle, n} <- Enum.zip(ends, [2, 3, 4, 4]), reduce: lease do
      lease ->
        asked = Actor.cast(taker, fn -> PaymentQueue.take(queue: queue, timeout: 10_000) end)
        eventually(fn -> PaymentQueue.info(queue).parked == 1 end)
        :ok = settle.(lease)
        assert_receive {^asked, {:ok, {:a, ^n}, lease}}, 10_000
        lease
    end

    assert_conserved(queue)
  end

  test "those that wait count towards the bound, exactly" do
    queue = queue_of!(for(n <- 1..5, do: {:a, n}), capacity: 5)
    {_, lease} = take!(queue)
    assert PaymentQueue.take(queue: queue) == :empty
    assert %{held: 4, queue_size: 4} = PaymentQueue.info(queue)
    assert put({:a, 6}, queue) == :ok
    assert put({:a, 7}, queue) == {:error, :queue_full}
    assert put({:b, 1}, queue) == {:error, :queue_full}
    :ok = PaymentQueue.ack(lease)
    assert take_all(queue) == for(n <- 2..6, do: {:a, n})
    assert %{rejected_full: 2} = assert_conserved(queue)
  end

  test "a delayed one takes its place when its time has come; priorities do not change the order within a partition" do
    queue = queue!(priorities: 3)
    # Long enough to put the others meanwhile, on any machine.
    :ok = put({:a, :delayed}, queue, delay: 500)
    :ok = put({:a, :low}, queue, priority: 2)
    :ok = put({:a, :high}, queue, priority: 0)
    :ok = put({:b, :high}, queue, priority: 1)
    eventually(fn -> PaymentQueue.info(queue).scheduled == 0 end)
    assert [{{:b, :high}, _}, {{:a, :low}, lease}] = PaymentQueue.take_many(9, queue: queue)
    assert {{:a, :high}, lease} = take!(queue, ack: lease)
    assert {{:a, :delayed}, _} = take!(queue, ack: lease)
  end

  test "one that was passed by goes before fresh ones of a higher priority when its turn has come" do
    queue = queue!(priorities: 2)
    for n <- 1..2, do: :ok = put({:a, n}, queue, priority: 1)
    {{:a, 1}, lease} = take!(queue)
    assert PaymentQueue.take(queue: queue) == :empty
    :ok = PaymentQueue.enqueue(:urgent, queue: queue)
    :ok = PaymentQueue.ack(lease)
    assert take_all(queue) == [{:a, 2}, :urgent]
  end

  test "an item may have a key and a partition, and payloads of any size" do
    queue = queue!(unique_for: 0)
    large = :binary.copy("x", 200_000)
    assert PaymentQueue.enqueue(large, queue: queue, key: 1, partition: :a) == :ok
    assert PaymentQueue.enqueue(:small, queue: queue, key: 2, partition: :a) == :ok
    assert PaymentQueue.enqueue(:small, queue: queue, key: 2, partition: :b) == {:error, :duplicate}
    assert {:ok, ^large, lease} = PaymentQueue.take(queue: queue)
    assert PaymentQueue.take(queue: queue) == :empty
    :ok = PaymentQueue.ack(lease)
    assert take_all(queue) == [:small]
    assert %{keys: 0, held: 0} = assert_conserved(queue)
  end

  test "enqueue_many takes a function of the payload, and nil is no partition" do
    queue = queue!()
    items = [%{account: 1}, %{account: nil}, %{account: nil}, %{account: 1}]
    assert PaymentQueue.enqueue_many(items, queue: queue, partition: & &1.account) == {:ok, 4}
    assert [{%{account: 1}, _}, {%{account: nil}, _}, {%{account: nil}, _}] = PaymentQueue.take_many(9, queue: queue)
  end

  test "a long line of one partition is passed by in slices, and a parked taker is served behind it" do
    queue = queue_of!(for n <- 1..2_000, do: {:a, n})
    {{:a, 1}, lease} = take!(queue)
    :ok = put({:b, 1}, queue)
    assert {{:b, 1}, _} = take!(queue, timeout: 10_000)
    :ok = PaymentQueue.ack(lease)
    assert take_all(queue) == for(n <- 2..2_000, do: {:a, n})
  end

  test "an idle queue has forgotten all its partitions" do
    queue = queue!(capacity: 100_000)
    for n <- 1..5_000, do: :ok = put({rem(n, 1_000), n}, queue)
    {_, leases} = 10_000 |> PaymentQueue.take_many(queue: queue) |> Enum.unzip()
    assert %{queue_size: 4_000, memory: memory} = PaymentQueue.info(queue)
    assert PaymentQueue.purge(queue) == {:ok, 4_000}
    :ok = PaymentQueue.ack_many(leases)
    assert %{held: 0, memory: after_all} = assert_conserved(queue)
    assert after_all < memory - 5_000 * 100
  end

  test "workers of a queue: retries and drain keep the order of each partition" do
    test = self()
    failures = :counters.new(1, [])

    handler = fn {partition, n} ->
      send(test, {:handled, partition, n})
      :counters.add(failures, 1, 1)
      if rem(:counters.get(failures, 1), 5) == 0, do: {:error, :declined}, else: :ok
    end

    queue = queue!(handler: handler, concurrency: 8, backoff: [min: 1, max: 2], max_attempts: 1_000, capacity: 10_000)
    for n <- 1..50, partition <- 1..8, do: :ok = put({partition, n}, queue)
    assert PaymentQueue.drain(queue, timeout: 60_000) == :ok

    for partition <- 1..8 do
      seen = received(partition)
      assert Enum.dedup(seen) == Enum.to_list(1..50), "partition #{partition}: #{inspect(seen)}"
    end

    assert %{settled: 400, dead: 0} = assert_conserved(queue)
  end

  defp received(partition, acc \\ []) do
    receive do
      {:handled, ^partition, n} -> received(partition, [n | acc])
    after
      0 -> Enum.reverse(acc)
    end
  end

  test "a storm of producers, takers and deaths: never two of a partition at once, none out of order, none lost" do
    queue = queue!(capacity: 1_000_000, max_attempts: 65_535)
    partitions = 1..7
    each = 600
    holders = :ets.new(:holders, [:public])
    settled = :ets.new(:settled, [:public])
    for partition <- partitions, do: :ets.insert(settled, {partition, 0})

    producers =
      for partition <- partitions,
          do: fn -> for n <- 1..each, do: :ok = put({partition, n}, queue) end

    take_one = fn lease ->
      case PaymentQueue.take([queue: queue, timeout: 300] ++ lease) do
        {:ok, {partition, n}, lease} ->
          # The one before has ended: whoever held it settled it, or is dead.
          for {_, holder} <- :ets.lookup(holders, partition), do: refute(Process.alive?(holder))
          :ets.insert(holders, {partition, self()})
          [{_, last}] = :ets.lookup(settled, partition)
          assert n in [last, last + 1]
          for _ <- 1..3, do: :erlang.yield()
          :ets.insert(settled, {partition, n})
          :ets.delete(holders, partition)
          [ack: lease]

        :empty ->
          nil
      end
    end

    run = fn -> Enum.reduce_while(Stream.cycle([:go]), [], fn :go, lease -> go_on(take_one.(lease)) end) end
    victims = for _ <- 1..40, do: fn -> spawn(run) |> tap(fn _ -> :erlang.yield() end) |> kill() end
    together(producers ++ [run, run, fn -> Enum.each(victims, & &1.()) end])
    for {partition, n} <- take_all(queue), do: :ets.insert(settled, {partition, n})
    for partition <- partitions, do: assert(:ets.lookup(settled, partition) == [{partition, each}])
    assert %{settled: 4_200, held: 0} = assert_conserved(queue)
  end

  defp go_on(nil), do: {:halt, nil}
  defp go_on(lease), do: {:cont, lease}
end
