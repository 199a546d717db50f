defmodule PaymentQueue.Laws.OrderTest do
  # Order: strict FIFO among fresh items; redelivered items come before fresh ones, oldest first.
  use PaymentQueue.QueueCase, async: true

  # An fdatasync may take long on a busy disk.
  @quiet if System.get_env("PAYMENT_QUEUE_TEST_DURABILITY", "none") == "none", do: 200, else: 3_000

  test "first in, first out, over all ways in and out" do
    queue = queue!(capacity: 10_000)
    for n <- 1..500, do: :ok = PaymentQueue.enqueue(n, queue: queue)
    {:ok, 4_000} = PaymentQueue.enqueue_many(Enum.to_list(501..4_500), queue: queue)
    assert PaymentQueue.peek(4_500, queue) == Enum.to_list(1..4_500)
    assert for({n, _} <- PaymentQueue.take_many(1_000, queue: queue), do: n) == Enum.to_list(1..1_000)
    assert for(_ <- 1..1_000, do: elem(PaymentQueue.dequeue(queue: queue), 1)) == Enum.to_list(1_001..2_000)
    assert take_all(queue) == Enum.to_list(2_001..4_500)
  end

  test "the items of each producer keep their order among many" do
    queue = queue!(capacity: 100_000)
    together(for p <- 1..8, do: fn -> for n <- 1..2_000, do: :ok = PaymentQueue.enqueue({p, n}, queue: queue) end)
    taken = take_all(queue)
    assert length(taken) == 16_000
    for p <- 1..8, do: assert(for({^p, n} <- taken, do: n) == Enum.to_list(1..2_000))
  end

  test "each of many takers sees every producer's items in order" do
    queue = queue!(capacity: 100_000)
    producers = for p <- 1..3, do: fn -> for n <- 1..3_000, do: :ok = PaymentQueue.enqueue({p, n}, queue: queue) end
    takers = for _ <- 1..3, do: fn -> take_until_quiet(queue, []) end
    taken = together(producers ++ takers) |> Enum.drop(3)
    assert taken |> Enum.concat() |> Enum.sort() == for(p <- 1..3, n <- 1..3_000, do: {p, n})

    for mine <- taken, p <- 1..3 do
      numbers = for {^p, n} <- mine, do: n
      assert numbers == Enum.sort(numbers)
    end
  end

  defp take_until_quiet(queue, acc) do
    case PaymentQueue.take(queue: queue, timeout: @quiet) do
      {:ok, payload, lease} ->
        :ok = PaymentQueue.ack(lease)
        take_until_quiet(queue, [payload | acc])

      :empty ->
        Enum.reverse(acc)
    end
  end

  test "redelivered items come first, oldest first, in whatever order they were given back" do
    queue = queue!()
    {:ok, 9} = PaymentQueue.enqueue_many(Enum.to_list(1..9), queue: queue)
    leases = Map.new(PaymentQueue.take_many(6, queue: queue))
    for n <- [4, 1, 6, 3], do: :ok = PaymentQueue.nack(leases[n])
    assert PaymentQueue.peek(9, queue) == [1, 3, 4, 6, 7, 8, 9]
    assert {:ok, 1, one} = PaymentQueue.take(queue: queue)
    :ok = PaymentQueue.nack(leases[2])
    :ok = PaymentQueue.nack(one)
    assert take_all(queue) == [1, 2, 3, 4, 6, 7, 8, 9]
  end
end
