defmodule PaymentQueue.TestingTest do
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog
  import PaymentQueue.Testing

  alias PaymentQueue.Testing.Names

  describe "drain_queue" do
    test "runs the queue's handler in the caller and counts" do
      test = self()

      handler = fn
        :declined ->
          {:error, :declined}

        :fraud ->
          {:cancel, :fraud}

        :busy ->
          {:snooze, 60_000}

        n ->
          send(test, {:ran, n, self()})
          :ok
      end

      # Longer than the slowest machine needs for the drain.
      queue = start_queue!(handler: handler, concurrency: 0, backoff: [min: 60_000, max: 60_000])
      {:ok, 5} = PaymentQueue.enqueue_many([1, :declined, :fraud, :busy, 2], queue: queue)

      assert drain_queue(queue: queue) == %{success: 2, failure: 1, discard: 0, cancelled: 1, snoozed: 1}
      assert_received {:ran, 1, ^test}
      assert_received {:ran, 2, ^test}
      # The failed one waits for its backoff, the snoozed one for its time.
      assert %{scheduled: 2, queue_size: 0} = PaymentQueue.info(queue)
    end

    test "with_retries runs failures again until the end" do
      queue = start_queue!(handler: fn _ -> {:error, :down} end, concurrency: 0, max_attempts: 3)
      :ok = PaymentQueue.enqueue(1, queue: queue)
      assert %{failure: 2, discard: 1} = drain_queue(queue: queue, with_retries: true)
      assert [%{reason: :down, attempts: 3}] = PaymentQueue.dead_letters(queue)
    end

    test "limit bounds the runs" do
      queue = start_queue!(handler: fn _ -> {:snooze, 5} end, concurrency: 0)
      :ok = PaymentQueue.enqueue(1, queue: queue)
      assert %{snoozed: 10} = drain_queue(queue: queue, with_retries: true, limit: 10)
    end

    test "takes a handler of its own, which may raise" do
      queue = start_queue!()
      {:ok, 2} = PaymentQueue.enqueue_many([1, 2], queue: queue)
      log = capture_log(fn -> assert %{failure: 2} = drain_queue(queue: queue, handler: fn _ -> raise "no" end) end)
      assert log =~ "RuntimeError: no"
    end

    test "a batch handler gets lists" do
      test = self()

      handler = fn list ->
        send(test, list)
        [:ok]
      end

      queue = start_queue!(handler: handler, concurrency: 0, batch: [size: 10])
      {:ok, 2} = PaymentQueue.enqueue_many([1, 2], queue: queue)
      assert %{success: 2} = drain_queue(queue: queue)
      assert_received [1]
      assert_received [2]
    end

    test "without any handler" do
      queue = start_queue!()
      assert_raise ArgumentError, ~r/has no handler/, fn -> drain_queue(queue: queue) end
      assert_raise ArgumentError, ~r/Did you mean :with_retries/, fn -> drain_queue(with_retrys: true) end
      assert_raise ArgumentError, ~r/never started/, fn -> drain_queue(queue: :never_started) end
    end
  end

  describe "assertions" do
    setup do
      queue = start_queue!()
      {:ok, 2} = PaymentQueue.enqueue_many([%{id: 1, amount: 1990}, "raw"], queue: queue)
      {:ok, queue: queue}
    end

    test "all_enqueued", %{queue: queue} do
      assert all_enqueued(queue: queue) == [%{id: 1, amount: 1990}, "raw"]
    end

    test "assert_enqueued", %{queue: queue} do
      id = 1
      assert_enqueued(queue: queue)
      assert_enqueued(queue: queue, payload: %{id: 1})
      assert_enqueued(queue: queue, payload: %{id: ^id})
      assert_enqueued(payload: "r" <> _, queue: queue)

      error = assert_raise ExUnit.AssertionError, fn -> assert_enqueued(queue: queue, payload: %{id: 2}) end
      assert error.message =~ "no payload matches %{id: 2} in the queue #{inspect(queue)}, where 2 are waiting"
      assert error.message =~ "1990"
    end

    test "refute_enqueued", %{queue: queue} do
      refute_enqueued(queue: queue, payload: %{id: 2})
      assert_raise ExUnit.AssertionError, fn -> refute_enqueued(queue: queue, payload: %{id: 1}) end
      assert_raise ExUnit.AssertionError, fn -> refute_enqueued(queue: queue) end
      assert {:ok, 2} = PaymentQueue.purge(queue)
      refute_enqueued(queue: queue)
    end
  end

  describe "queues of tests" do
    test "every borrower has a name of its own, at the same time" do
      test = self()

      borrowers =
        for _ <- 1..20 do
          spawn(fn ->
            queue = start_queue!(capacity: 5)
            :ok = PaymentQueue.enqueue(self(), queue: queue)
            send(test, {queue, PaymentQueue.peek(9, queue), self()})
            receive do: (:end -> :ok)
          end)
        end

      names =
        for pid <- borrowers do
          assert_receive {queue, [^pid], ^pid}
          queue
        end

      assert length(Enum.uniq(names)) == 20
      Enum.each(borrowers, &send(&1, :end))
    end

    test "a name comes back clean, however its borrower ended" do
      test = self()

      for death <- [:normal, :kill] do
        {borrower, monitor} =
          spawn_monitor(fn ->
            queue = start_queue!(handler: fn _ -> {:error, :down} end, concurrency: 0, max_attempts: 2)
            {:ok, 3} = PaymentQueue.enqueue_many([1, 2, 3], queue: queue)
            :ok = PaymentQueue.enqueue(4, queue: queue, delay: 60_000)
            {:ok, 1, lease} = PaymentQueue.take(queue: queue)
            :ok = PaymentQueue.reject(lease, :no)
            {:ok, 2, _held} = PaymentQueue.take(queue: queue)
            :ok = PaymentQueue.pause(queue)
            send(test, {:borrowed, queue})
            receive do: (:end -> :ok)
          end)

        assert_receive {:borrowed, queue}
        assert Process.whereis(PaymentQueue.Supervisor.name(queue))
        if death == :kill, do: Process.exit(borrower, :kill), else: send(borrower, :end)
        assert_receive {:DOWN, ^monitor, _, _, _}
        # Cleaning has begun when this is read; the answer comes when it is done.
        assert checkin_queue(queue) == :ok
        assert Process.whereis(PaymentQueue.Supervisor.name(queue)) == nil
        assert %{queue_size: 0, in_flight: 0, scheduled: 0, dead: 0, state: :closed} = PaymentQueue.info(queue)
        assert queue in :sys.get_state(Names).free
      end
    end

    test "a queue that somebody else still holds items of is not lent" do
      test = self()
      queue = start_queue!()
      :ok = PaymentQueue.enqueue(1, queue: queue)

      holder =
        spawn(fn ->
          send(test, PaymentQueue.take(queue: queue))
          receive do: (:end -> :ok)
        end)

      assert_receive {:ok, 1, _}
      :ok = checkin_queue(queue)
      assert queue in :sys.get_state(Names).dirty
      send(holder, :end)
    end

    test "checkout_queue lends a name for start_supervised!" do
      queue = checkout_queue()
      start_supervised!({PaymentQueue, name: queue, capacity: 1})
      assert PaymentQueue.enqueue(1, queue: queue) == :ok
      assert PaymentQueue.enqueue(2, queue: queue) == {:error, :queue_full}
    end

    test "start_queue! chooses the name" do
      assert_raise ArgumentError, ~r/chooses the name/, fn -> start_queue!(name: :mine) end
    end
  end
end
