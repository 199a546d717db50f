defmodule PaymentQueue.Laws.RateTest do
  # Rate: with `rate_limit: {n, ms}`, no window of `ms` has more than `n` deliveries; who must wait does so without polling
  # and is woken in time; and the limit changes live.
  use PaymentQueue.QueueCase, async: true

  @hour 3_600_000

  defp parked(queue, n), do: eventually(fn -> PaymentQueue.info(queue).parked == n end)

  # The delivery started at some time between the two readings.
  defp timed(take) do
    before = System.monotonic_time(:microsecond)
    result = take.()
    {before, System.monotonic_time(:microsecond), result}
  end

  # No `n + 1` deliveries lie, in their whole width, within one window. One percent for clocks that disagree.
  defp assert_limit(times, n, ms) do
    for window <- times |> Enum.sort_by(&elem(&1, 1)) |> Enum.chunk_every(n + 1, 1, :discard) do
      first = window |> Enum.map(&elem(&1, 0)) |> Enum.min()
      last = window |> Enum.map(&elem(&1, 1)) |> Enum.max()
      assert last - first >= ms * 990, "#{n + 1} deliveries within #{last - first} us"
    end
  end

  test "no window has more than n, over parked takers, polling takers, batches and dequeues at once" do
    queue = queue!(rate_limit: {5, 40})
    {:ok, 100} = PaymentQueue.enqueue_many(Enum.to_list(1..100), queue: queue)

    takes = [
      fn -> PaymentQueue.take(queue: queue, timeout: 1_000) end,
      fn -> PaymentQueue.take(queue: queue) end,
      fn -> PaymentQueue.dequeue(queue: queue, timeout: 1_000) end,
      fn -> PaymentQueue.take_many(3, queue: queue, timeout: 1_000) end
    ]

    times = for(take <- takes, do: fn -> collect(queue, take, []) end) |> together() |> Enum.concat()
    assert times |> Enum.map(&elem(&1, 2)) |> Enum.sort() == Enum.to_list(1..100)
    assert_limit(times, 5, 40)
    assert_conserved(queue)
  end

  # As `{before, after, payload}`, until nothing waits.
  defp collect(queue, take, acc) do
    acc =
      case timed(take) do
        {_, _, :empty} -> acc
        {before, later, {:ok, payload, wait}} when is_integer(wait) -> [{before, later, payload} | acc]
        {before, later, {:ok, payload, lease}} -> settled([{payload, lease}], before, later) ++ acc
        {before, later, items} -> settled(items, before, later) ++ acc
      end

    if PaymentQueue.stats(queue).queue_size == 0, do: acc, else: collect(queue, take, acc)
  end

  defp settled(items, before, later) do
    for {payload, lease} <- items do
      :ok = PaymentQueue.ack(lease)
      {before, later, payload}
    end
  end

  test "workers keep to it and handle everything, in order" do
    queue = queue!(rate_limit: {3, 20}, handler: telling(self()), concurrency: 4)

    {:ok, 20} = PaymentQueue.enqueue_many(Enum.to_list(1..20), queue: queue)
    assert PaymentQueue.drain(queue, timeout: :infinity) == :ok
    for n <- 1..20, do: assert_received({:handled, ^n})
    assert %{settled: 20} = assert_conserved(queue)
  end

  test "redeliveries count" do
    queue = queue!(rate_limit: {3, @hour})
    :ok = PaymentQueue.enqueue(:payment, queue: queue)

    for attempt <- 1..3 do
      {:ok, :payment, lease} = PaymentQueue.take(queue: queue)
      assert PaymentQueue.attempt(lease) == attempt
      :ok = PaymentQueue.nack(lease)
    end

    assert PaymentQueue.take(queue: queue) == :empty
    assert PaymentQueue.stats(queue) == %{queue_size: 1, in_flight: 0}
  end

  test "what finds nothing uses nothing" do
    queue = queue!(rate_limit: {1, @hour})
    for _ <- 1..5, do: assert(PaymentQueue.take(queue: queue) == :empty)
    :ok = PaymentQueue.enqueue(1, queue: queue)
    assert {:ok, 1, _} = PaymentQueue.take(queue: queue)
  end

  test "one who waits for the next delivery does not run meanwhile" do
    queue = queue!(rate_limit: {1, @hour})
    {:ok, 2} = PaymentQueue.enqueue_many([1, 2], queue: queue)
    {:ok, 1, _} = PaymentQueue.take(queue: queue)
    taker = actor()
    Actor.cast(taker, fn -> PaymentQueue.take(queue: queue, timeout: :infinity) end)
    parked(queue, 1)
    eventually(fn -> Process.info(taker, :status) == {:status, :waiting} end)
    {:reductions, before} = Process.info(taker, :reductions)
    let_pass(300)
    {:reductions, later} = Process.info(taker, :reductions)
    assert later - before <= 30
  end

  test "a limit that is raised or lifted wakes who waits for it, and one that is lowered holds at once" do
    queue = queue!(rate_limit: {1, @hour})
    {:ok, 4} = PaymentQueue.enqueue_many([1, 2, 3, 4], queue: queue)
    {:ok, 1, _} = PaymentQueue.take(queue: queue)
    for _ <- 1..4, do: Actor.cast(actor(), fn -> PaymentQueue.take(queue: queue, timeout: :infinity) end)
    parked(queue, 4)
    assert PaymentQueue.info(queue).rate_limit == {1, @hour}
    :ok = PaymentQueue.configure(queue, rate_limit: {2, @hour})
    assert_receive {_, {:ok, 2, _}}
    parked(queue, 3)
    :ok = PaymentQueue.configure(queue, rate_limit: nil)
    assert_receive {_, {:ok, 3, _}}
    assert_receive {_, {:ok, 4, _}}
    parked(queue, 1)
    assert PaymentQueue.info(queue).rate_limit == nil
    :ok = PaymentQueue.configure(queue, rate_limit: {1, @hour})
    :ok = PaymentQueue.enqueue(5, queue: queue)
    assert_receive {_, {:ok, 5, _}}
    :ok = PaymentQueue.enqueue(6, queue: queue)
    assert PaymentQueue.take(queue: queue) == :empty
  end

  test "pause, resume, purge and another start leave it as it is" do
    name = new_name()
    queue!(name: name, rate_limit: {1, @hour})
    {:ok, 3} = PaymentQueue.enqueue_many([1, 2, 3], queue: name)
    :ok = PaymentQueue.pause(name)
    assert PaymentQueue.take(queue: name) == :empty
    :ok = PaymentQueue.resume(name)
    assert {:ok, 1, _} = PaymentQueue.take(queue: name)
    :ok = PaymentQueue.pause(name)
    :ok = PaymentQueue.resume(name)
    assert PaymentQueue.take(queue: name) == :empty
    assert PaymentQueue.purge(name) == {:ok, 2}
    :ok = stop_supervised(name)
    queue!(name: name, rate_limit: {1, @hour})
    :ok = PaymentQueue.enqueue(4, queue: name)
    assert PaymentQueue.take(queue: name) == :empty
    :ok = PaymentQueue.configure(name, rate_limit: nil)
    assert {:ok, 4, _} = PaymentQueue.take(queue: name)
  end
end
