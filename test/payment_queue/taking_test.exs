defmodule PaymentQueue.TakingTest do
  use PaymentQueue.QueueCase, async: true

  setup do: %{queue: queue!()}

  describe "take with a timeout" do
    test "ends when the time is over", %{queue: queue} do
      before = System.monotonic_time(:millisecond)
      assert PaymentQueue.take(queue: queue, timeout: 30) == :empty
      assert System.monotonic_time(:millisecond) - before >= 30
      assert PaymentQueue.info(queue).parked == 0
      refute_received _
    end

    test "is woken by the enqueue", %{queue: queue} do
      taker = actor()
      ref = Actor.cast(taker, fn -> PaymentQueue.take(queue: queue, timeout: :infinity) end)
      eventually(fn -> PaymentQueue.info(queue).parked == 1 end)
      assert PaymentQueue.enqueue(:item, queue: queue) == :ok
      assert_receive {^ref, {:ok, :item, lease}}
      assert PaymentQueue.stats(queue) == %{queue_size: 0, in_flight: 1}
      assert PaymentQueue.ack(lease) == :ok
    end

    test "a large item wakes, too", %{queue: queue} do
      big = :binary.copy("x", 400_000)

      for payload <- [big, {big}] do
        taker = actor()
        ref = Actor.cast(taker, fn -> PaymentQueue.take(queue: queue, timeout: 5_000) end)
        eventually(fn -> PaymentQueue.info(queue).parked == 1 end)
        assert PaymentQueue.enqueue(payload, queue: queue) == :ok
        assert_receive {^ref, {:ok, ^payload, lease}}
        assert PaymentQueue.ack(lease) == :ok
      end
    end

    test "takes at once what is there, and settles the last one first", %{queue: queue} do
      {:ok, 2} = PaymentQueue.enqueue_many([1, 2], queue: queue)
      assert {:ok, 1, lease} = PaymentQueue.take(queue: queue, timeout: 0)
      assert {:ok, 2, lease} = PaymentQueue.take(queue: queue, ack: lease, timeout: :infinity)
      assert PaymentQueue.take(queue: queue, ack: lease, timeout: 1) == :empty
      assert PaymentQueue.stats(queue) == %{queue_size: 0, in_flight: 0}
      assert PaymentQueue.info(queue).settled == 2
    end

    test "options in any order", %{queue: queue} do
      :ok = PaymentQueue.enqueue(1, queue: queue)
      assert {:ok, 1, lease} = PaymentQueue.take(timeout: 5, queue: queue)
      assert PaymentQueue.take(ack: lease, timeout: 0, queue: queue) == :empty
    end

    test "leaves other messages alone", %{queue: queue} do
      send(self(), :mine)
      send(self(), {:payment_queue, :delivered, 0, :not_ours})
      assert PaymentQueue.take(queue: queue, timeout: 5) == :empty
      assert_received :mine
      assert_received {:payment_queue, :delivered, 0, :not_ours}
    end

    test "an item that comes back wakes a parked taker", %{queue: queue} do
      :ok = PaymentQueue.enqueue(1, queue: queue)
      {:ok, 1, lease} = PaymentQueue.take(queue: queue)
      ref = Actor.cast(actor(), fn -> PaymentQueue.take(queue: queue, timeout: 5_000) end)
      eventually(fn -> PaymentQueue.info(queue).parked == 1 end)
      assert PaymentQueue.nack(lease) == :ok
      assert_receive {^ref, {:ok, 1, again}}
      assert PaymentQueue.attempt(again) == 2
    end
  end

  describe "a paused queue" do
    test "hands nothing out, takes everything in, and wakes takers on resume", %{queue: queue} do
      assert PaymentQueue.pause(queue) == :ok
      assert PaymentQueue.enqueue(1, queue: queue) == :ok
      assert PaymentQueue.take(queue: queue) == :empty
      assert PaymentQueue.take_many(3, queue: queue) == []
      assert PaymentQueue.dequeue(queue: queue) == :empty
      assert PaymentQueue.info(queue).state == :paused
      ref = Actor.cast(actor(), fn -> PaymentQueue.take(queue: queue, timeout: 5_000) end)
      eventually(fn -> PaymentQueue.info(queue).parked == 1 end)
      assert PaymentQueue.resume(queue) == :ok
      assert_receive {^ref, {:ok, 1, _}}
    end
  end

  describe "take_many" do
    test "takes up to n, in order, over slices", %{queue: queue} do
      {:ok, 3_000} = PaymentQueue.enqueue_many(Enum.to_list(1..3_000), queue: queue)
      taken = PaymentQueue.take_many(2_500, queue: queue)
      assert Enum.map(taken, &elem(&1, 0)) == Enum.to_list(1..2_500)
      assert PaymentQueue.take_many(0, queue: queue) == []
      assert length(PaymentQueue.take_many(2_500, queue: queue, timeout: 5)) == 500
      assert PaymentQueue.take_many(1, queue: queue) == []
      for {_, lease} <- taken, do: assert(PaymentQueue.ack(lease) == :ok)
      assert PaymentQueue.stats(queue) == %{queue_size: 0, in_flight: 500}
    end

    test "with large payloads among them", %{queue: queue} do
      big = :binary.copy("x", 300_000)
      {:ok, 4} = PaymentQueue.enqueue_many([1, big, {big}, 2], queue: queue)
      assert [{1, _}, {^big, _}, {{^big}, _}, {2, _}] = PaymentQueue.take_many(10, queue: queue)
    end

    test "waits for the first", %{queue: queue} do
      assert PaymentQueue.take_many(3, queue: queue, timeout: 5) == []
      ref = Actor.cast(actor(), fn -> PaymentQueue.take_many(3, queue: queue, timeout: :infinity) end)
      eventually(fn -> PaymentQueue.info(queue).parked == 1 end)
      :ok = PaymentQueue.enqueue(1, queue: queue)
      assert_receive {^ref, [{1, _}]}
    end
  end

  describe "dequeue" do
    test "takes and settles", %{queue: queue} do
      big = :binary.copy("x", 300_000)
      {:ok, 3} = PaymentQueue.enqueue_many([1, big, {big}], queue: queue)
      assert {:ok, 1, wait} = PaymentQueue.dequeue(queue: queue)
      assert is_integer(wait) and wait >= 0
      assert {:ok, ^big, _} = PaymentQueue.dequeue(queue: queue)
      assert {:ok, {^big}, _} = PaymentQueue.dequeue(queue: queue, timeout: 10)
      assert PaymentQueue.dequeue(queue: queue) == :empty
      assert PaymentQueue.dequeue(queue: queue, timeout: 5) == :empty
      assert %{settled: 3, in_flight: 0} = assert_conserved(queue)
    end

    test "waits", %{queue: queue} do
      ref = Actor.cast(actor(), fn -> PaymentQueue.dequeue(queue: queue, timeout: :infinity) end)
      eventually(fn -> PaymentQueue.info(queue).parked == 1 end)
      :ok = PaymentQueue.enqueue(:item, queue: queue)
      assert_receive {^ref, {:ok, :item, 0}}
      assert PaymentQueue.stats(queue) == %{queue_size: 0, in_flight: 0}
    end

    test "says how long the item waited", %{queue: queue} do
      :ok = PaymentQueue.enqueue(:item, queue: queue)
      let_pass(25)
      assert {:ok, :item, wait} = PaymentQueue.dequeue(queue: queue)
      assert wait in 20..5_000
    end
  end
end
