defmodule PaymentQueueTest do
  use PaymentQueue.QueueCase, async: true

  doctest PaymentQueue
  doctest PaymentQueue.Backoff

  describe "enqueue and take" do
    setup do: %{queue: queue!()}

    @payloads [
      nil,
      :atom,
      "",
      "binary",
      <<1::3>>,
      String.to_charlist("charlist"),
      42,
      -1.5,
      1_208_925_819_614_629_174_706_176,
      {},
      {:ok, %{}},
      [],
      [1 | 2],
      %{correlation_id: "a", amount: 1990},
      :large,
      {:error, :queue_full},
      {:large, {1, 2, 3}}
    ]

    test "what comes out equals what went in, for any term", %{queue: queue} do
      payloads = [self(), make_ref(), &String.upcase/1, fn -> :local end, :queue.new() | @payloads]
      for payload <- payloads, do: assert(PaymentQueue.enqueue(payload, queue: queue) == :ok)
      assert PaymentQueue.peek(length(payloads), queue) == payloads
      assert take_all(queue) == payloads
    end

    test "payloads of every size around the limits of the short calls", %{queue: queue} do
      for size <- [1, 63, 64, 65, 255, 256, 4_095, 4_096, 16_384, 65_535, 65_536, 65_537, 300_000, 1_048_576] do
        binary = :binary.copy("x", size)
        assert PaymentQueue.enqueue(binary, queue: queue) == :ok
        assert PaymentQueue.enqueue({binary_part(binary, 0, max(size - 64, 0))}, queue: queue) == :ok
        assert [^binary, {_}] = PaymentQueue.peek(2, queue)
        assert {:ok, ^binary, lease} = PaymentQueue.take(queue: queue)
        assert {:ok, {_}, lease} = PaymentQueue.take(queue: queue, ack: lease)
        assert PaymentQueue.ack(lease) == :ok
      end
    end

    test "a sub-binary does not pin what it was cut from", %{queue: queue} do
      big = :binary.copy("x", 100_000)
      assert PaymentQueue.enqueue(binary_part(big, 10, 100), queue: queue) == :ok
      assert {:ok, small, lease} = PaymentQueue.take(queue: queue)
      assert :binary.referenced_byte_size(small) < 1_000
      assert PaymentQueue.ack(lease) == :ok
    end

    test "an item that was settled cannot be settled again", %{queue: queue} do
      :ok = PaymentQueue.enqueue(1, queue: queue)
      {:ok, 1, lease} = PaymentQueue.take(queue: queue)
      assert PaymentQueue.attempt(lease) == 1
      assert PaymentQueue.stats(queue) == %{queue_size: 0, in_flight: 1}
      assert PaymentQueue.ack(lease) == :ok
      assert PaymentQueue.ack(lease) == {:error, :stale_lease}
      assert PaymentQueue.nack(lease) == {:error, :stale_lease}
      assert PaymentQueue.nack(lease, delay: 5) == {:error, :stale_lease}
      assert PaymentQueue.reject(lease, :late) == {:error, :stale_lease}
      assert PaymentQueue.stats(queue) == %{queue_size: 0, in_flight: 0}
      assert_conserved(queue)
    end

    test "many leases are settled at once, over more than one slice and of several queues", %{queue: queue} do
      other = :"#{queue} other"
      start_supervised!({PaymentQueue, name: other})
      for name <- [queue, other], do: {:ok, 600} = PaymentQueue.enqueue_many(Enum.to_list(1..600), queue: name)
      leases = for name <- [queue, other], {_, lease} <- PaymentQueue.take_many(600, queue: name), do: lease
      {settled, rest} = leases |> Enum.shuffle() |> Enum.split(5)
      Enum.each(settled, fn lease -> :ok = PaymentQueue.ack(lease) end)

      assert {:error, {:stale_lease, stale}} = PaymentQueue.ack_many(settled ++ rest)
      assert Enum.sort(stale) == Enum.sort(settled)
      assert PaymentQueue.ack_many([]) == :ok
      for name <- [queue, other], do: assert(PaymentQueue.stats(name) == %{queue_size: 0, in_flight: 0})
      assert_conserved(queue)
      assert_conserved(other)
    end

    test "a list with anything but leases settles nothing", %{queue: queue} do
      :ok = PaymentQueue.enqueue(1, queue: queue)
      {:ok, 1, lease} = PaymentQueue.take(queue: queue)
      assert_raise ArgumentError, ~r/:no_lease/, fn -> PaymentQueue.ack_many([lease, :no_lease]) end
      assert PaymentQueue.ack_many([lease]) == :ok
    end

    test "a stale lease in the fused call takes nothing", %{queue: queue} do
      {:ok, 2} = PaymentQueue.enqueue_many([1, 2], queue: queue)
      {:ok, 1, lease} = PaymentQueue.take(queue: queue)
      :ok = PaymentQueue.ack(lease)
      assert PaymentQueue.take(queue: queue, ack: lease) == {:error, :stale_lease}
      assert PaymentQueue.take(queue: queue, ack: lease, timeout: 10) == {:error, :stale_lease}
      assert PaymentQueue.stats(queue) == %{queue_size: 1, in_flight: 0}
    end

    test "any process may settle", %{queue: queue} do
      :ok = PaymentQueue.enqueue(1, queue: queue)
      {:ok, 1, lease} = PaymentQueue.take(queue: queue)
      assert Actor.run(actor(), fn -> PaymentQueue.ack(lease) end) == :ok
      assert PaymentQueue.ack(lease) == {:error, :stale_lease}
    end

    test "a delayed item takes up room and comes when it is due", %{queue: queue} do
      assert PaymentQueue.enqueue(:much_later, queue: queue, delay: 60_000) == :ok
      assert PaymentQueue.take(queue: queue) == :empty
      assert %{scheduled: 1, queue_size: 0} = PaymentQueue.info(queue)
      before = System.monotonic_time(:millisecond)
      assert PaymentQueue.enqueue(:later, queue: queue, delay: 30) == :ok
      assert {:ok, :later, lease} = PaymentQueue.take(queue: queue, timeout: 5_000)
      assert System.monotonic_time(:millisecond) - before >= 30
      assert PaymentQueue.attempt(lease) == 1
      assert PaymentQueue.ack(lease) == :ok
    end

    test "the longest delay is accepted", %{queue: queue} do
      assert PaymentQueue.enqueue(:later, queue: queue, delay: 4_294_967_295) == :ok
      assert %{scheduled: 1} = assert_conserved(queue)
      assert PaymentQueue.purge(queue) == {:ok, 1}
    end

    test "large delayed items", %{queue: queue} do
      big = :binary.copy("x", 500_000)
      assert PaymentQueue.enqueue_many([big, {big}], queue: queue, delay: 20) == {:ok, 2}
      assert {:ok, ^big, lease} = PaymentQueue.take(queue: queue, timeout: 5_000)
      assert {:ok, {^big}, lease} = PaymentQueue.take(queue: queue, ack: lease, timeout: 5_000)
      assert PaymentQueue.ack(lease) == :ok
    end

    test "a rejected item is a dead letter with its reason", %{queue: queue} do
      :ok = PaymentQueue.enqueue(%{id: 1}, queue: queue)
      {:ok, _, lease} = PaymentQueue.take(queue: queue)
      assert PaymentQueue.reject(lease, {:no_account, 7}) == :ok

      assert [%{payload: %{id: 1}, reason: {:no_account, 7}, attempts: 1, died_at: at}] =
               PaymentQueue.dead_letters(queue)

      assert abs(DateTime.diff(DateTime.utc_now(), at)) < 60
      assert_conserved(queue)
    end

    test "a long reason is kept as its beginning", %{queue: queue} do
      :ok = PaymentQueue.enqueue(1, queue: queue)
      {:ok, _, lease} = PaymentQueue.take(queue: queue)
      assert PaymentQueue.reject(lease, Enum.to_list(1..10_000)) == :ok
      assert [%{reason: "[1, 2, 3" <> _}] = PaymentQueue.dead_letters(queue)
    end
  end

  describe "refusals" do
    test "queue_full, by items" do
      queue = queue!(capacity: 2)
      assert for(n <- 1..3, do: PaymentQueue.enqueue(n, queue: queue)) == [:ok, :ok, {:error, :queue_full}]
      assert PaymentQueue.enqueue(4, queue: queue, delay: 10) == {:error, :queue_full}
      assert %{rejected_full: 2, enqueued: 2} = PaymentQueue.info(queue)
      {:ok, 1, _lease} = PaymentQueue.take(queue: queue)
      assert PaymentQueue.enqueue(5, queue: queue) == :ok
    end

    test "queue_full, by bytes" do
      max = 100 + 2 * own_bytes()
      queue = queue!(max_bytes: max)
      kb = :binary.copy("x", 60)
      assert PaymentQueue.enqueue(kb, queue: queue) == :ok
      assert PaymentQueue.enqueue(kb, queue: queue) == {:error, :queue_full}
      assert PaymentQueue.enqueue(binary_part(kb, 0, 40), queue: queue) == :ok
      assert %{bytes: ^max} = PaymentQueue.info(queue)
    end

    test "payload_too_large, small and large" do
      queue = queue!(max_payload_bytes: 10)
      assert PaymentQueue.enqueue("0123456789", queue: queue) == :ok
      assert PaymentQueue.enqueue("0123456789+", queue: queue) == {:error, :payload_too_large}
      assert PaymentQueue.enqueue(:binary.copy("x", 2_000_000), queue: queue) == {:error, :payload_too_large}
      assert PaymentQueue.enqueue({:binary.copy("x", 2_000_000)}, queue: queue) == {:error, :payload_too_large}
      assert PaymentQueue.stats(queue).queue_size == 1
    end

    test "queue_unavailable for a queue that was never started" do
      assert PaymentQueue.enqueue(1, queue: :never_started) == {:error, :queue_unavailable}
      assert PaymentQueue.enqueue(1, queue: :never_started, delay: 5) == {:error, :queue_unavailable}
      assert PaymentQueue.enqueue_many([1, 2], queue: :never_started) == {:error, :queue_unavailable, 0}
      assert PaymentQueue.enqueue_many([1, 2], queue: :never_started, delay: 5) == {:error, :queue_unavailable, 0}
    end

    test "everything else about a queue that was never started raises and helps" do
      for call <- [
            fn -> PaymentQueue.take(queue: :never_started) end,
            fn -> PaymentQueue.take(queue: :never_started, timeout: 10) end,
            fn -> PaymentQueue.take_many(2, queue: :never_started) end,
            fn -> PaymentQueue.dequeue(queue: :never_started) end,
            fn -> PaymentQueue.stats(:never_started) end,
            fn -> PaymentQueue.info(:never_started) end,
            fn -> PaymentQueue.peek(1, :never_started) end,
            fn -> PaymentQueue.pause(:never_started) end,
            fn -> PaymentQueue.resume(:never_started) end,
            fn -> PaymentQueue.scale(:never_started, 1) end,
            fn -> PaymentQueue.drain(:never_started) end,
            fn -> PaymentQueue.purge(:never_started) end,
            fn -> PaymentQueue.dead_letters(:never_started) end,
            fn -> PaymentQueue.requeue_dead(:never_started) end,
            fn -> PaymentQueue.configure(:never_started, capacity: 1) end
          ] do
        error = assert_raise ArgumentError, call
        assert error.message =~ "the queue :never_started was never started"
        assert error.message =~ "PaymentQueue.start_link(name: :never_started)"
      end
    end

    test "a malformed lease" do
      for call <- [&PaymentQueue.ack/1, &PaymentQueue.nack/1, &PaymentQueue.attempt/1, &PaymentQueue.reject(&1, :r)],
          do: assert_raise(ArgumentError, ~r/expected a lease/, fn -> call.({:not, :a, :lease}) end)
    end
  end

  describe "enqueue_many" do
    test "keeps the order over slices and large payloads" do
      queue = queue!(capacity: 20_000)
      big = :binary.copy("x", 200_000)
      payloads = Enum.to_list(1..5_000) ++ [big, {big}] ++ Enum.to_list(5_001..9_000) ++ [big]
      assert PaymentQueue.enqueue_many(payloads, queue: queue) == {:ok, 9_003}
      assert take_all(queue) == payloads
      assert PaymentQueue.enqueue_many([], queue: queue) == {:ok, 0}
    end

    test "says how many are in" do
      queue = queue!(capacity: 1_500)
      assert PaymentQueue.enqueue_many(Enum.to_list(1..5_000), queue: queue) == {:error, :queue_full, 1_500}
      assert take_all(queue) == Enum.to_list(1..1_500)

      small = queue!(max_payload_bytes: 100)
      payloads = [1, 2, :binary.copy("x", 500_000), 3]
      assert PaymentQueue.enqueue_many(payloads, queue: small) == {:error, :payload_too_large, 2}
      assert take_all(small) == [1, 2]
      assert PaymentQueue.enqueue_many(payloads, queue: small, delay: 1) == {:error, :payload_too_large, 2}
    end
  end

  test "the default queue needs no name" do
    start_supervised!(PaymentQueue)
    assert PaymentQueue.enqueue(%{id: 1}) == :ok
    assert PaymentQueue.stats() == %{queue_size: 1, in_flight: 0}
    assert PaymentQueue.peek() == [%{id: 1}]
    assert {:ok, %{id: 1}, lease} = PaymentQueue.take()
    assert PaymentQueue.nack(lease) == :ok
    assert {:ok, %{id: 1}, wait_ms} = PaymentQueue.dequeue()
    assert wait_ms >= 0
    assert PaymentQueue.enqueue_many([1, 2]) == {:ok, 2}
    assert [{1, one}, {2, two}] = PaymentQueue.take_many(5)
    assert PaymentQueue.ack(one) == :ok and PaymentQueue.ack(two) == :ok
    assert PaymentQueue.take(timeout: 1) == :empty
    assert PaymentQueue.pause() == :ok and PaymentQueue.resume() == :ok
    assert PaymentQueue.purge() == {:ok, 0} and PaymentQueue.dead_letters() == []
    assert PaymentQueue.requeue_dead() == {:ok, 0} and PaymentQueue.scale(1) == {:error, :no_workers}
    assert %{enqueued: 3, settled: 3} = PaymentQueue.info()
    assert PaymentQueue.drain() == :ok
    assert :default in PaymentQueue.queues()
  end
end
