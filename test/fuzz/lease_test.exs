defmodule PaymentQueue.Fuzz.LeaseTest do
  # Leases that nobody gave out: an error, and no item is harmed by them. Not beside other tests: a forged lease may be that of a
  # queue of theirs, and then it settles their item.
  use PaymentQueue.QueueCase, async: false

  alias PaymentQueue.Fuzz

  # A lease as bits: queue and consumer, attempt and slot, generation. Its attempt is only to be read: what is the same but for it
  # is the same lease.
  defp address({place, slot, generation}), do: {place, Bitwise.band(slot, 0xFFFFFFFF), generation}

  defp forged(leases) do
    {a, b, c} = Enum.random(leases)
    {d, e, f} = Enum.random(leases)

    near = fn n ->
      Enum.random([n, n + 1, max(n - 1, 0), Bitwise.bxor(n, Bitwise.bsl(1, Fuzz.below(60))), n + 2 ** 32])
    end

    case Fuzz.below(6) do
      0 -> Fuzz.term()
      1 -> {Fuzz.term(1), Fuzz.term(1), Fuzz.term(1)}
      2 -> {Fuzz.number(), Fuzz.number(), Fuzz.number()}
      3 -> {a, e, f}
      4 -> {near.(a), near.(b), near.(c)}
      5 -> {near.(d), b, near.(c)}
    end
  end

  defp calls do
    [
      &PaymentQueue.ack/1,
      &PaymentQueue.ack_many([&1]),
      &PaymentQueue.nack/1,
      &PaymentQueue.nack(&1, delay: 5),
      &PaymentQueue.reject(&1, :forged),
      &PaymentQueue.attempt/1,
      &PaymentQueue.take(queue: Enum.random([:default, :never_there]), ack: &1),
      &PaymentQueue.Native.fetch/1,
      &PaymentQueue.Native.fetch_large/1,
      &PaymentQueue.Native.waited/1,
      &PaymentQueue.Native.expire(&1, 0, ""),
      &PaymentQueue.Native.retry(&1, 0, ""),
      &PaymentQueue.Native.release(&1, 0)
    ]
  end

  test "a forged lease is an ArgumentError or stale, and what is leased stays leased" do
    queue = queue!()
    other = queue!()
    items = Enum.to_list(1..40)
    {:ok, 40} = PaymentQueue.enqueue_many(items, queue: queue)
    {:ok, 40} = PaymentQueue.enqueue_many(items, queue: other)
    mine = for {_, lease} <- PaymentQueue.take_many(40, queue: queue), do: lease
    holder = actor()
    theirs = Actor.run(holder, fn -> for {_, lease} <- PaymentQueue.take_many(40, queue: other), do: lease end)
    {spent, mine} = Enum.split(mine, 10)
    :ok = PaymentQueue.ack_many(spent)
    real = MapSet.new(mine ++ theirs, &address/1)

    outcomes =
      for _ <- 1..20_000, reduce: %{} do
        counts ->
          lease = forged(mine ++ theirs ++ spent)

          if match?({_, b, _} when is_integer(b), lease) and address(lease) in real do
            counts
          else
            outcome = try_lease(Enum.random(calls()), lease)
            Map.update(counts, outcome, 1, &(&1 + 1))
          end
      end

    assert Map.keys(outcomes) |> Enum.sort() == [:argument_error, :looked, :stale]
    assert outcomes.stale > 1_000 and outcomes.argument_error > 1_000
    assert %{in_flight: 30, settled: 10, dead: 0} = assert_conserved(queue)
    assert %{in_flight: 40, settled: 0, dead: 0} = assert_conserved(other)
    assert PaymentQueue.ack_many(mine ++ theirs) == :ok
  end

  defp try_lease(call, lease) do
    case call.(lease) do
      {:error, :stale_lease} -> :stale
      {:error, {:stale_lease, [^lease]}} -> :stale
      # `attempt/1` only reads.
      n when is_integer(n) -> :looked
      other -> flunk("a forged lease #{inspect(lease)} was answered by #{inspect(other)}")
    end
  rescue
    ArgumentError -> :argument_error
  end
end
