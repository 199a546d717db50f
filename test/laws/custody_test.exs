defmodule PaymentQueue.Laws.CustodyTest do
  # Custody: a taken item belongs to the process that took it; when that process dies, the item is back at once.
  use PaymentQueue.QueueCase, async: true

  defp taken_by(actor, queue), do: Actor.run(actor, fn -> PaymentQueue.take(queue: queue) end)

  for {name, die} <- [
        kill: quote(do: Process.exit(self(), :kill)),
        normal: quote(do: exit(:normal)),
        shutdown: quote(do: exit(:shutdown)),
        raise: quote(do: raise("no")),
        throw: quote(do: throw(:ball))
      ] do
    test "death by #{name}: back at the head, the attempt counted" do
      queue = queue!()
      {:ok, 3} = PaymentQueue.enqueue_many([1, 2, 3], queue: queue)
      test = self()

      {_, monitor} =
        spawn_monitor(fn ->
          send(test, PaymentQueue.take(queue: queue))
          unquote(die)
        end)

      assert_receive {:ok, 1, lease}
      assert PaymentQueue.attempt(lease) == 1
      assert_receive {:DOWN, ^monitor, _, _, _}
      # The monitor in the NIF and ours hear of a death in either order.
      eventually(fn -> PaymentQueue.stats(queue).in_flight == 0 end)
      assert {:ok, 1, again} = PaymentQueue.take(queue: queue)
      assert PaymentQueue.attempt(again) == 2
      # The dead holder's word no longer counts, whoever brings it.
      assert PaymentQueue.ack(lease) == {:error, :stale_lease}
      assert PaymentQueue.nack(lease) == {:error, :stale_lease}
      assert PaymentQueue.reject(lease, :late) == {:error, :stale_lease}
      assert PaymentQueue.take(queue: queue, ack: lease) == {:error, :stale_lease}
      assert PaymentQueue.ack(again) == :ok
      assert take_all(queue) == [2, 3]
      assert_conserved(queue)
    end
  end

  test "all that a process held comes back, before the fresh ones, oldest first" do
    queue = queue!(capacity: 1_000)
    {:ok, 600} = PaymentQueue.enqueue_many(Enum.to_list(1..600), queue: queue)
    holder = actor()
    held = Actor.run(holder, fn -> PaymentQueue.take_many(500, queue: queue) end)
    assert length(held) == 500
    for {n, lease} <- held, rem(n, 5) == 0, do: assert(PaymentQueue.ack(lease) == :ok)
    kill(holder)
    eventually(fn -> PaymentQueue.stats(queue) == %{queue_size: 500, in_flight: 0} end)
    assert take_all(queue) == Enum.filter(1..500, &(rem(&1, 5) != 0)) ++ Enum.to_list(501..600)
    assert_conserved(queue)
  end

  test "a death wakes a parked taker" do
    queue = queue!()
    :ok = PaymentQueue.enqueue(:pay, queue: queue)
    holder = actor()
    assert {:ok, :pay, _} = taken_by(holder, queue)
    ref = Actor.cast(actor(), fn -> PaymentQueue.take(queue: queue, timeout: :infinity) end)
    eventually(fn -> PaymentQueue.info(queue).parked == 1 end)
    kill(holder)
    assert_receive {^ref, {:ok, :pay, lease}}
    assert PaymentQueue.attempt(lease) == 2
  end

  test "a taker killed after the delivery, before it could look" do
    queue = queue!()

    for _ <- 1..200 do
      taker = spawn(fn -> PaymentQueue.take(queue: queue, timeout: :infinity) end)
      other = Task.async(fn -> Process.exit(taker, :kill) end)
      assert PaymentQueue.enqueue(:pay, queue: queue) == :ok
      Task.await(other)
      assert {:ok, :pay, lease} = PaymentQueue.take(queue: queue, timeout: 5_000)
      assert PaymentQueue.ack(lease) == :ok
    end

    assert %{queue_size: 0, in_flight: 0, settled: 200} = assert_conserved(queue)
  end

  test "after max_attempts a poison item is a dead letter" do
    queue = queue!(max_attempts: 3)
    {:ok, 2} = PaymentQueue.enqueue_many([:poison, :good], queue: queue)

    for attempt <- 1..3 do
      holder = actor()
      assert {:ok, :poison, lease} = taken_by(holder, queue)
      assert PaymentQueue.attempt(lease) == attempt
      kill(holder)
      eventually(fn -> PaymentQueue.stats(queue).in_flight == 0 end)
    end

    assert [%{payload: :poison, attempts: 3, reason: :consumer_down}] = PaymentQueue.dead_letters(queue)
    assert take_all(queue) == [:good]
    assert_conserved(queue)
  end

  test "nack uses attempts up, too" do
    queue = queue!(max_attempts: 2)
    :ok = PaymentQueue.enqueue(1, queue: queue)
    {:ok, 1, lease} = PaymentQueue.take(queue: queue)
    assert PaymentQueue.nack(lease) == :ok
    {:ok, 1, lease} = PaymentQueue.take(queue: queue)
    assert PaymentQueue.nack(lease, delay: 60_000) == :ok
    assert [%{payload: 1, attempts: 2, reason: :max_attempts}] = PaymentQueue.dead_letters(queue)
    assert %{scheduled: 0} = assert_conserved(queue)
  end

  test "a nack with a delay comes back to the head when it is due" do
    queue = queue!()
    {:ok, 3} = PaymentQueue.enqueue_many([1, 2, 3], queue: queue)
    [{1, late}, {2, soon}] = PaymentQueue.take_many(2, queue: queue)
    assert PaymentQueue.nack(late, delay: 60_000) == :ok
    assert %{scheduled: 1, in_flight: 1} = assert_conserved(queue)
    assert PaymentQueue.nack(soon, delay: 20) == :ok
    eventually(fn -> PaymentQueue.info(queue).scheduled == 1 end)
    assert take_all(queue) == [2, 3]
  end

  test "the lease of an earlier delivery stays stale after the item was taken again by the same process" do
    queue = queue!()
    :ok = PaymentQueue.enqueue(1, queue: queue)
    {:ok, 1, first} = PaymentQueue.take(queue: queue)
    :ok = PaymentQueue.nack(first)
    {:ok, 1, second} = PaymentQueue.take(queue: queue)
    assert PaymentQueue.ack(first) == {:error, :stale_lease}
    assert PaymentQueue.stats(queue).in_flight == 1
    assert PaymentQueue.ack(second) == :ok
  end

  test "two who settle at once: one wins" do
    queue = queue!()

    for _ <- 1..200 do
      :ok = PaymentQueue.enqueue(1, queue: queue)
      {:ok, 1, lease} = PaymentQueue.take(queue: queue)
      calls = [&PaymentQueue.ack/1, &PaymentQueue.nack/1, &PaymentQueue.reject(&1, :no), &PaymentQueue.ack/1]
      results = together(for call <- calls, do: fn -> call.(lease) end)
      assert Enum.sort(results) == [:ok | List.duplicate({:error, :stale_lease}, 3)]
      PaymentQueue.dequeue(queue: queue)
    end

    assert_conserved(queue)
  end
end
