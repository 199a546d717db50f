defmodule PaymentQueue.TelemetryTest do
  # With the real `:telemetry`.
  use PaymentQueue.QueueCase, async: true

  import PaymentQueue.TelemetryListener

  alias PaymentQueue.Telemetry

  @moduletag :telemetry
  # In the doctests.
  @compile {:no_warn_undefined, :telemetry}

  doctest PaymentQueue.Telemetry

  defp started(opts), do: opts |> queue!() |> listen()

  describe "the span of an item" do
    test "begins before the handler and ends when the item is settled" do
      test = self()
      queue = new_name()
      listen(queue)
      queue!(name: queue, handler: telling(test), concurrency: 1)
      :ok = PaymentQueue.enqueue(%{amount: 1990}, queue: queue)

      assert_receive {[:item, :stop], stop, %{state: :success} = metadata}
      assert {:messages, [start | _]} = Process.info(self(), :messages)
      assert {[:item, :start], %{system_time: _, monotonic_time: began}, %{queue: ^queue, attempt: 1} = begin} = start
      assert_received {:handled, %{amount: 1990}}

      assert Enum.sort(Map.keys(metadata)) == [:attempt, :queue, :state, :telemetry_span_context]
      assert metadata.telemetry_span_context == begin.telemetry_span_context
      assert Enum.sort(Map.keys(stop)) == [:duration, :monotonic_time, :queue_time]
      assert stop.monotonic_time == began + stop.duration
      assert stop.duration >= 0 and stop.queue_time >= 0
      assert PaymentQueue.info(queue).settled == 1
    end

    test "counts the time in the queue, which is more than the time that the test waited" do
      queue = started(handler: fn _ -> :ok end, concurrency: 1)
      PaymentQueue.pause(queue)
      :ok = PaymentQueue.enqueue(1, queue: queue)
      let_pass(50)
      PaymentQueue.resume(queue)
      assert_receive {[:item, :stop], %{queue_time: queue_time}, _}
      assert System.convert_time_unit(queue_time, :native, :millisecond) >= 50
    end

    test "says how each outcome ended" do
      queue = started(handler: &outcome/1, concurrency: 1, max_attempts: 2, backoff: [min: 0, max: 0])

      :ok = PaymentQueue.enqueue({:cancel, :closed_account}, queue: queue)
      assert_receive {[:item, :stop], _, %{state: :cancelled, reason: :closed_account, attempt: 1}}

      :ok = PaymentQueue.enqueue({:snooze, 1_000_000}, queue: queue)
      assert_receive {[:item, :stop], _, %{state: :snoozed}}

      :ok = PaymentQueue.enqueue({:error, :busy}, queue: queue)
      assert_receive {[:item, :exception], _, %{state: :failure, attempt: 1} = failed}
      assert %{kind: :error, reason: :busy, stacktrace: []} = failed
      assert_receive {[:item, :exception], _, %{state: :discard, attempt: 2}}
      assert [_, %{reason: :busy}] = dead_letters(queue, 2)

      :ok = PaymentQueue.enqueue(:raise, queue: queue)
      assert_receive {[:item, :exception], _, %{state: :failure, kind: :error} = raised}
      assert %{reason: %RuntimeError{message: "no"}, stacktrace: [{__MODULE__, :outcome, 1, _} | _]} = raised

      :ok = PaymentQueue.enqueue(:throw, queue: queue)
      assert_receive {[:item, :exception], _, %{kind: :throw, reason: :no}}
    end

    def outcome(:raise), do: raise("no")
    def outcome(:throw), do: throw(:no)
    def outcome(value), do: value

    test "is not there where the queue wants none" do
      queue = started(handler: telling(self()), concurrency: 1, telemetry: [spans: false])
      :ok = PaymentQueue.enqueue(1, queue: queue)
      assert_receive {:handled, 1}
      eventually(fn -> PaymentQueue.info(queue).settled == 1 end)
      refute_received {[:item, _], _, _}
    end

    test "is there in a test that drains its queue" do
      queue = started(handler: &outcome/1, concurrency: 0)
      {:ok, 2} = PaymentQueue.enqueue_many([:ok, {:cancel, :no}], queue: queue)
      assert %{success: 1, cancelled: 1} = PaymentQueue.Testing.drain_queue(queue: queue)
      assert_received {[:item, :start], _, %{attempt: 1}}
      assert_received {[:item, :stop], %{duration: _}, %{state: :success}}
      assert_received {[:item, :stop], _, %{state: :cancelled, reason: :no}}
    end

    test "is ended by the watchdog when the handler takes too long, once" do
      queue =
        started(
          handler: fn _ -> let_pass(60_000) end,
          handler_timeout: 200,
          concurrency: 1,
          max_attempts: 2,
          backoff: [min: 0]
        )

      :ok = PaymentQueue.enqueue(1, queue: queue)

      for {attempt, state} <- [{1, :failure}, {2, :discard}] do
        assert_receive {[:item, :start], _, %{attempt: ^attempt, telemetry_span_context: span}}

        assert_receive {[:item, :exception], %{duration: duration},
                        %{telemetry_span_context: ^span, state: ^state, reason: :timeout}}

        assert System.convert_time_unit(duration, :native, :millisecond) >= 200
      end

      assert [%{reason: :timeout}] = dead_letters(queue, 1)
      refute_received {[:item, :exception], _, _}
    end

    test "has no end when the worker is killed, whose death is an event" do
      queue = started(handler: asking(self()), concurrency: 1)
      :ok = PaymentQueue.enqueue(1, queue: queue)
      assert_receive {:handling, worker, 1}
      kill(worker)
      assert_receive {[:worker, :down], %{count: 1}, %{worker: ^worker, reason: :killed}}
      assert_receive {:handling, again, 1}
      send(again, {:return, :ok})
      assert_receive {[:item, :stop], _, %{attempt: 2}}
      refute_received {[:item, :stop], _, %{attempt: 1}}
    end
  end

  describe "payloads" do
    @card %{card: "4111 1111 1111 1111"}

    test "are in no event, neither as such nor inside a reason" do
      queue = started(handler: fn payload -> Map.fetch!(payload, :amount) end, concurrency: 1, max_attempts: 1)
      :ok = PaymentQueue.enqueue(@card, queue: queue)
      assert_receive {[:item, :exception], _, %{reason: %KeyError{key: :amount}} = metadata}
      refute inspect(metadata) =~ "4111"
      assert Exception.message(metadata.reason) =~ ":amount"
    end

    test "and reasons as they are, are in the events of a queue that asks for it" do
      queue =
        started(
          handler: fn payload -> Map.fetch!(payload, :amount) end,
          concurrency: 1,
          max_attempts: 1,
          telemetry: [payload: true]
        )

      :ok = PaymentQueue.enqueue(@card, queue: queue)
      assert_receive {[:item, :start], _, %{payload: @card}}
      assert_receive {[:item, :exception], _, %{payload: @card, reason: %KeyError{term: @card}}}
    end
  end

  describe "the span of a batch" do
    test "counts its items by what became of them" do
      queue =
        started(
          handler: fn payloads -> Enum.map(payloads, &outcome/1) end,
          batch: [size: 4, wait: 5_000],
          concurrency: 1,
          max_attempts: 1
        )

      {:ok, 4} = PaymentQueue.enqueue_many([:ok, {:cancel, 1}, {:snooze, 1_000_000}, {:error, 2}], queue: queue)
      assert_receive {[:batch, :stop], stop, %{telemetry_span_context: span} = metadata}
      assert_received {[:batch, :start], %{size: 4, system_time: _}, %{telemetry_span_context: ^span}}
      assert %{size: 4, success: 1, cancelled: 1, snoozed: 1, discard: 1, failure: 0} = stop
      assert stop.duration >= 0 and stop.queue_time >= 0
      assert Enum.sort(Map.keys(metadata)) == [:queue, :telemetry_span_context]
      refute_received {[:item, _], _, _}
    end

    test "is an exception when the handler raised" do
      queue = started(handler: fn _ -> raise "no" end, batch: [size: 2, wait: 5_000], concurrency: 1)
      {:ok, 2} = PaymentQueue.enqueue_many([1, 2], queue: queue)
      assert_receive {[:batch, :exception], %{failure: 2, size: 2}, %{kind: :error, reason: %RuntimeError{}}}
    end

    test "is ended by the watchdog" do
      queue =
        started(
          handler: fn _ -> let_pass(60_000) end,
          batch: [size: 2, wait: 5_000],
          handler_timeout: 200,
          concurrency: 1,
          max_attempts: 1
        )

      {:ok, 2} = PaymentQueue.enqueue_many([1, 2], queue: queue)
      assert_receive {[:batch, :exception], %{discard: 2}, %{reason: :timeout}}
    end
  end

  describe "refusals" do
    test "have their reason; what is accepted emits nothing" do
      queue = started(capacity: 1, max_payload_bytes: 100)
      :ok = PaymentQueue.enqueue(1, queue: queue)
      refute_received _

      {:error, :queue_full} = PaymentQueue.enqueue(2, queue: queue)
      assert_received {[:enqueue, :refused], %{count: 1}, %{reason: :queue_full}}
      {:error, :queue_full} = PaymentQueue.enqueue(2, queue: queue, delay: 10)
      assert_received {[:enqueue, :refused], %{count: 1}, %{reason: :queue_full}}
      {:error, :queue_full, 0} = PaymentQueue.enqueue_many([2, 3], queue: queue)
      assert_received {[:enqueue, :refused], %{count: 1}, %{reason: :queue_full}}
      {:error, :payload_too_large} = PaymentQueue.enqueue(String.duplicate("x", 101), queue: queue)
      assert_received {[:enqueue, :refused], %{count: 1}, %{reason: :payload_too_large}}
      {:error, :payload_too_large} = PaymentQueue.enqueue(String.duplicate("x", 100_000), queue: queue)
      assert_received {[:enqueue, :refused], %{count: 1}, %{reason: :payload_too_large}}
      {:error, :payload_too_large, 0} = PaymentQueue.enqueue_many([String.duplicate("x", 100_000)], queue: queue)
      assert_received {[:enqueue, :refused], %{count: 1}, %{reason: :payload_too_large}}
      refute_received _
    end

    test "by a queue that was never started are heard of too" do
      queue = listen(new_name())
      {:error, :queue_unavailable} = PaymentQueue.enqueue(1, queue: queue)
      assert_received {[:enqueue, :refused], _, %{reason: :queue_unavailable}}
    end
  end

  describe "operations" do
    test "each say what was done" do
      queue = started(handler: asking(self()), concurrency: 1)
      PaymentQueue.pause(queue)
      assert_received {[:queue, :paused], %{count: 1}, %{queue: ^queue}}
      {:ok, 2} = PaymentQueue.enqueue_many([1, 2], queue: queue)
      {:error, :timeout} = PaymentQueue.drain(queue, timeout: 0)
      assert_received {[:queue, :drained], %{left: 2, duration: _}, %{result: :timeout}}
      {:ok, 2} = PaymentQueue.purge(queue)
      assert_received {[:queue, :purged], %{count: 2}, _}
      :ok = PaymentQueue.drain(queue)
      assert_received {[:queue, :drained], %{left: 0}, %{result: :ok}}
      PaymentQueue.resume(queue)
      assert_received {[:queue, :resumed], _, _}
      :ok = PaymentQueue.scale(queue, 2)
      assert_received {[:queue, :scaled], %{workers: 2}, _}
      {:ok, 0} = PaymentQueue.requeue_dead(queue)
      assert_received {[:queue, :requeued], %{count: 0}, _}
    end
  end

  describe "what the poller sees" do
    test "is the depth, and what moved in native code" do
      queue = started(max_attempts: 2, max_dead: 1, telemetry: [interval: 20])
      {:ok, 2} = PaymentQueue.enqueue_many([1, 2], queue: queue)

      assert_receive {[:queue, :depth], %{queue_size: 2, in_flight: 0, enqueued: 2, capacity: 10_000},
                      %{state: :running}}

      # Twice taken and never settled: two redeliveries, then two dead letters, of which one is too many.
      for _ <- 1..2 do
        holder = actor()
        Actor.run(holder, fn -> PaymentQueue.take_many(2, queue: queue) end)
        kill(holder)
        eventually(fn -> PaymentQueue.stats(queue).in_flight == 0 end)
      end

      assert sum([:queue, :redelivered], 2) == 2
      assert sum([:queue, :dead_letter], 2) == 2
      assert sum([:queue, :dropped], 1) == 1
      assert_conserved(queue)
    end

    # Of events that may come in one interval or in two.
    defp sum(event, wanted, seen \\ 0) do
      assert_receive {^event, %{count: count}, _}
      if seen + count < wanted, do: sum(event, wanted, seen + count), else: seen + count
    end

    test "is not looked at with an interval of :infinity, but can be asked for" do
      queue = started(telemetry: [interval: :infinity])
      refute PaymentQueue.Telemetry.Poller in for({id, _, _, _} <- Supervisor.which_children(tree(queue)), do: id)
      :ok = Telemetry.emit_depth(queue)
      assert_received {[:queue, :depth], %{queue_size: 0}, _}
      assert_raise ArgumentError, ~r/never started/, fn -> Telemetry.emit_depth(new_name()) end
    end
  end

  test "an accepted enqueue calls nothing of ours beside the native function" do
    queue = queue!(capacity: 1)
    assert events_called(fn -> :ok = PaymentQueue.enqueue(1, queue: queue) end) == []
    assert :refused in events_called(fn -> {:error, :queue_full} = PaymentQueue.enqueue(2, queue: queue) end)
  end

  # No process can trace itself.
  defp events_called(fun) do
    caller = actor()
    :erlang.trace_pattern({PaymentQueue.Telemetry.Events, :_, :_}, true, [:local])
    :erlang.trace(caller, true, [:call])
    Actor.run(caller, fun)
    delivered = :erlang.trace_delivered(caller)
    assert_receive {:trace_delivered, ^caller, ^delivered}
    calls()
  end

  defp calls do
    receive do
      {:trace, _, :call, {_, function, _}} -> [function | calls()]
    after
      0 -> []
    end
  end
end
