defmodule PaymentQueue.Laws.PriorityTest do
  # Priority: every item of a higher priority is taken before any of a lower one, first in, first out within one; redelivered
  # items come before fresh ones. One bound holds for all together, and nothing is lost between the lanes.
  use PaymentQueue.QueueCase, async: true

  defp put(queue, payload, priority), do: PaymentQueue.enqueue(payload, queue: queue, priority: priority)

  test "the highest priority first, in order within each, by every way in and out" do
    queue = queue!(priorities: 3, capacity: 10_000)
    mixed = for n <- 1..900, do: {rem(n * 7, 3), n}
    for {priority, _} = item <- Enum.take(mixed, 450), do: :ok = put(queue, item, priority)

    for {priority, _} = item <- Enum.drop(mixed, 450),
        do: {:ok, 1} = PaymentQueue.enqueue_many([item], queue: queue, priority: priority)

    sorted = Enum.sort(mixed)
    assert PaymentQueue.peek(900, queue) == sorted

    assert for({item, lease} <- PaymentQueue.take_many(250, queue: queue), do: settled(item, lease)) ==
             Enum.take(sorted, 250)

    assert for(_ <- 1..250, do: elem(PaymentQueue.dequeue(queue: queue), 1)) == Enum.slice(sorted, 250, 250)
    assert take_all(queue) == Enum.drop(sorted, 500)
    assert_conserved(queue)
  end

  defp settled(item, lease) do
    :ok = PaymentQueue.ack(lease)
    item
  end

  test "without priority: an item has the highest" do
    queue = queue!(priorities: 2)
    :ok = put(queue, :low, 1)
    :ok = PaymentQueue.enqueue(:high, queue: queue)
    {:ok, 2} = PaymentQueue.enqueue_many([:a, :b], queue: queue)
    assert take_all(queue) == [:high, :a, :b, :low]
  end

  test "redelivered items come before fresh ones of any priority, by priority and then age" do
    queue = queue!(priorities: 3)
    for {item, priority} <- [a: 2, b: 2, c: 1, d: 0], do: :ok = put(queue, item, priority)
    leases = Map.new(PaymentQueue.take_many(4, queue: queue))
    for item <- [:b, :c, :a], do: :ok = PaymentQueue.nack(leases[item])
    :ok = put(queue, :urgent, 0)
    assert PaymentQueue.peek(9, queue) == [:c, :a, :b, :urgent]
    assert take_all(queue) == [:c, :a, :b, :urgent]
  end

  test "delays, large payloads and dead letters keep their priority" do
    queue = queue!(priorities: 4)
    large = :binary.copy("x", 200_000)
    :ok = put(queue, :low, 3)
    :ok = PaymentQueue.enqueue(:delayed, queue: queue, priority: 1, delay: 10)
    :ok = put(queue, large, 2)
    eventually(fn -> PaymentQueue.info(queue).scheduled == 0 end)
    assert [{:delayed, delayed}, {^large, second}, {:low, low}] = PaymentQueue.take_many(3, queue: queue)
    for lease <- [low, second, delayed], do: :ok = PaymentQueue.reject(lease, :declined)
    {:ok, 3} = PaymentQueue.requeue_dead(queue)
    assert take_all(queue) == [:delayed, large, :low]
  end

  test "one bound for all, exactly, whoever enqueues" do
    queue = queue!(priorities: 5, capacity: 100)

    accepted =
      together(for p <- 0..7, do: fn -> Enum.count(1..100, fn n -> put(queue, {p, n}, rem(p, 5)) == :ok end) end)

    assert Enum.sum(accepted) == 100
    assert PaymentQueue.stats(queue).queue_size == 100
    assert %{rejected_full: 700} = assert_conserved(queue)
    assert PaymentQueue.purge(queue) == {:ok, 100}
    assert assert_conserved(queue).bytes == 0
  end

  test "a parked taker is woken by an item of any priority, and one item wakes one" do
    queue = queue!(priorities: 3)
    for _ <- 1..4, do: Actor.cast(actor(), fn -> PaymentQueue.take(queue: queue, timeout: :infinity) end)
    eventually(fn -> PaymentQueue.info(queue).parked == 4 end)

    for {priority, left} <- [{2, 3}, {0, 2}, {1, 1}] do
      :ok = put(queue, priority, priority)
      assert_receive {_, {:ok, ^priority, _}}
      assert PaymentQueue.info(queue).parked == left
    end

    refute_received {_, {:ok, _, _}}
  end

  test "many producers and takers of all priorities: each item once" do
    queue = queue!(priorities: 3, capacity: 100_000)
    producers = for p <- 0..2, do: fn -> for(n <- 1..2_000, do: :ok = put(queue, {p, n}, p)) && [] end
    takers = for _ <- 1..3, do: fn -> take_until_quiet(queue, []) end
    taken = (producers ++ takers) |> together() |> Enum.drop(3)
    # What came while nobody took, should the machine have stopped for so long.
    taken = [take_all(queue) | taken]
    assert taken |> Enum.concat() |> Enum.sort() == for(p <- 0..2, n <- 1..2_000, do: {p, n})

    for mine <- taken, p <- 0..2 do
      numbers = for {^p, n} <- mine, do: n
      assert numbers == Enum.sort(numbers)
    end
  end

  defp take_until_quiet(queue, acc) do
    case PaymentQueue.take(queue: queue, timeout: 200) do
      {:ok, payload, lease} ->
        :ok = PaymentQueue.ack(lease)
        take_until_quiet(queue, [payload | acc])

      :empty ->
        Enum.reverse(acc)
    end
  end

  test "the number of priorities does not change on a live queue; a new start may change it, and nothing is lost" do
    name = new_name()
    queue!(name: name, priorities: 3)

    assert_raise ArgumentError, ~r/:priorities cannot change on a live queue/, fn ->
      PaymentQueue.configure(name, priorities: 2)
    end

    :ok = put(name, :low, 2)
    :ok = stop_supervised(name)
    queue!(name: name)
    assert_raise ArgumentError, ~r/:priority: 1; allowed: 0..0/, fn -> put(name, :refused, 1) end
    :ok = PaymentQueue.enqueue(:high, queue: name)
    assert take_all(name) == [:high, :low]
  end
end
