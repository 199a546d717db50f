defmodule PaymentQueue.OperationsTest do
  use PaymentQueue.QueueCase, async: true

  describe "drain" do
    test "of an empty queue is done at once; the queue stays closed until resume" do
      queue = queue!()
      assert PaymentQueue.drain(queue) == :ok
      assert PaymentQueue.enqueue(1, queue: queue) == {:error, :queue_closed}
      assert PaymentQueue.enqueue_many([1], queue: queue) == {:error, :queue_closed, 0}
      assert PaymentQueue.info(queue).state == :closed
      assert PaymentQueue.resume(queue) == :ok
      assert PaymentQueue.enqueue(1, queue: queue) == :ok
    end

    test "waits until the last item is settled" do
      queue = queue!()
      {:ok, 2} = PaymentQueue.enqueue_many([1, 2], queue: queue)
      ref = Actor.cast(actor(), fn -> PaymentQueue.drain(queue, timeout: :infinity) end)
      eventually(fn -> PaymentQueue.info(queue).state == :closed end)
      {:ok, 1, lease} = PaymentQueue.take(queue: queue)
      {:ok, 2, lease} = PaymentQueue.take(queue: queue, ack: lease)
      refute_received {^ref, _}
      assert PaymentQueue.ack(lease) == :ok
      assert_receive {^ref, :ok}
    end

    test "waits for scheduled items, which a taker still gets" do
      queue = queue!()
      :ok = PaymentQueue.enqueue(1, queue: queue, delay: 20)
      ref = Actor.cast(actor(), fn -> PaymentQueue.drain(queue, timeout: :infinity) end)
      assert {:ok, 1, lease} = PaymentQueue.take(queue: queue, timeout: 5_000)
      assert PaymentQueue.ack(lease) == :ok
      assert_receive {^ref, :ok}
    end

    test "gives up after the timeout, leaves the items, and no message" do
      queue = queue!(shutdown: 20)
      :ok = PaymentQueue.enqueue(1, queue: queue)
      assert PaymentQueue.drain(queue, timeout: 5) == {:error, :timeout}
      # By default the timeout is the queue's shutdown time.
      assert PaymentQueue.drain(queue) == {:error, :timeout}
      assert take_all(queue) == [1]
      assert PaymentQueue.drain(queue, timeout: 0) == :ok
      refute_received _
    end

    test "lets the workers finish" do
      queue = queue!(handler: telling(self()), concurrency: 3)
      {:ok, 500} = PaymentQueue.enqueue_many(Enum.to_list(1..500), queue: queue)
      assert PaymentQueue.drain(queue, timeout: 5_000) == :ok
      for n <- 1..500, do: assert_received({:handled, ^n})
      assert %{settled: 500} = assert_conserved(queue)
    end
  end

  describe "purge" do
    test "removes what waits and what is scheduled, in slices" do
      queue = queue!(capacity: 20_000)
      {:ok, 10_000} = PaymentQueue.enqueue_many(Enum.to_list(1..10_000), queue: queue)
      {:ok, 3} = PaymentQueue.enqueue_many([:a, :b, :c], queue: queue, delay: 60_000)
      {:ok, 1, lease} = PaymentQueue.take(queue: queue)
      {:ok, 2, back} = PaymentQueue.take(queue: queue)
      :ok = PaymentQueue.nack(back)
      assert PaymentQueue.purge(queue) == {:ok, 10_002}
      assert PaymentQueue.purge(queue) == {:ok, 0}
      assert %{purged: 10_002, in_flight: 1, scheduled: 0, bytes: bytes} = assert_conserved(queue)
      assert PaymentQueue.ack(lease) == :ok
      assert bytes == 0
      assert PaymentQueue.enqueue_many(Enum.to_list(1..20_000), queue: queue) == {:ok, 20_000}
    end
  end

  describe "dead letters" do
    defp dead_letter(queue, payload, reason) do
      :ok = PaymentQueue.enqueue(payload, queue: queue)
      {:ok, ^payload, lease} = PaymentQueue.take(queue: queue)
      :ok = PaymentQueue.reject(lease, reason)
    end

    test "are kept oldest first, bounded, and the dropped ones counted" do
      queue = queue!(max_dead: 3)
      for n <- 1..5, do: dead_letter(queue, n, {:reason, n})
      assert [%{payload: 3, reason: {:reason, 3}}, %{payload: 4}, %{payload: 5}] = PaymentQueue.dead_letters(queue)
      assert [%{payload: 3}] = PaymentQueue.dead_letters(queue, 1)
      assert [] = PaymentQueue.dead_letters(queue, 0)
      assert %{dead: 3, dead_dropped: 2} = assert_conserved(queue)
    end

    test "none at all are kept with max_dead: 0" do
      queue = queue!(max_dead: 0)
      dead_letter(queue, 1, :no)
      assert PaymentQueue.dead_letters(queue) == []
      assert %{dead: 0, dead_dropped: 1} = assert_conserved(queue)
    end

    test "go back to the tail with their attempts reset" do
      queue = queue!(max_attempts: 1)
      big = :binary.copy("x", 300_000)
      for payload <- [1, 2, big], do: dead_letter(queue, payload, :no)
      assert [_, _, %{payload: ^big}] = PaymentQueue.dead_letters(queue)
      :ok = PaymentQueue.enqueue(:fresh, queue: queue)
      assert PaymentQueue.requeue_dead(queue, 2) == {:ok, 2}
      assert PaymentQueue.requeue_dead(queue, 0) == {:ok, 0}
      assert %{dead: 1, queue_size: 3} = assert_conserved(queue)
      assert PaymentQueue.requeue_dead(queue) == {:ok, 1}
      assert PaymentQueue.requeue_dead(queue) == {:ok, 0}
      assert {:ok, :fresh, lease} = PaymentQueue.take(queue: queue)
      assert {:ok, 1, lease} = PaymentQueue.take(queue: queue, ack: lease)
      assert PaymentQueue.attempt(lease) == 1
      assert {:ok, 2, lease} = PaymentQueue.take(queue: queue, ack: lease)
      assert {:ok, ^big, lease} = PaymentQueue.take(queue: queue, ack: lease)
      assert PaymentQueue.ack(lease) == :ok
      assert_conserved(queue)
    end

    test "many of them" do
      queue = queue!(max_dead: 5_000, capacity: 5_000)
      for n <- 1..3_000, do: dead_letter(queue, n, :no)
      assert length(PaymentQueue.dead_letters(queue, 5_000)) == 3_000
      assert PaymentQueue.requeue_dead(queue) == {:ok, 3_000}
      assert take_all(queue) == Enum.to_list(1..3_000)
      assert_conserved(queue)
    end
  end

  describe "peek" do
    test "shows the order of taking and removes nothing" do
      queue = queue!()
      {:ok, 4} = PaymentQueue.enqueue_many([1, 2, 3, 4], queue: queue)
      {:ok, 1, lease} = PaymentQueue.take(queue: queue)
      :ok = PaymentQueue.nack(lease)
      assert PaymentQueue.peek(3, queue) == [1, 2, 3]
      assert PaymentQueue.peek(100, queue) == [1, 2, 3, 4]
      assert PaymentQueue.peek(0, queue) == []
      assert PaymentQueue.stats(queue).queue_size == 4
      assert take_all(queue) == [1, 2, 3, 4]
    end
  end

  test "info has the keys of the contract" do
    queue = queue!(capacity: 7)
    info = PaymentQueue.info(queue)

    for key <-
          ~w(capacity max_bytes bytes memory enqueued settled redelivered rejected_full scheduled dead dead_dropped)a ++
            ~w(consumers parked oldest_ms wait_us state purged queue_size in_flight)a,
        do: assert(is_map_key(info, key), "#{key} is missing in #{inspect(info)}")

    assert info.capacity == 7
    assert info.state == :running
  end
end
