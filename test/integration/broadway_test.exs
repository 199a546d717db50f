defmodule PaymentQueue.BroadwayTest do
  # With the real Broadway 1.x.
  use PaymentQueue.QueueCase, async: true

  import ExUnit.CaptureLog
  import PaymentQueue.Pipeline

  @moduletag :broadway
  @compile {:no_warn_undefined, [Broadway, Broadway.Message]}

  alias Broadway.Message

  defp settled(queue, n), do: eventually(fn -> PaymentQueue.info(queue).settled == n end)

  defp enqueue!(queue, payloads) do
    n = length(payloads)
    {:ok, ^n} = PaymentQueue.enqueue_many(payloads, queue: queue)
  end

  defp telling_message(test) do
    fn message ->
      send(test, {:handled, message})
      message
    end
  end

  describe "messages" do
    test "carry the payload and what is known about its delivery, and are acknowledged" do
      queue = queue!()
      pipeline!(queue, handle: telling_message(self()))
      enqueue!(queue, [%{amount: 1990}])
      assert_receive {:handled, %{data: %{amount: 1990}, metadata: metadata}}
      assert %{queue: ^queue, attempt: 1, lease: lease} = metadata
      settled(queue, 1)
      assert {:error, :stale_lease} = PaymentQueue.ack(lease)
    end

    test "are there for all that was in the queue before, in its order" do
      queue = queue!()
      enqueue!(queue, Enum.to_list(1..500))
      pipeline!(queue, handle: telling_message(self()), processors: [concurrency: 1])
      for n <- 1..500, do: assert_receive({:handled, %{data: ^n}})
      settled(queue, 500)
      assert_conserved(queue)
    end

    test "may be longer than a short native call carries" do
      queue = queue!()
      long = String.duplicate("x", 300_000)
      pipeline!(queue, handle: telling_message(self()))
      eventually(fn -> PaymentQueue.info(queue).parked == 1 end)
      enqueue!(queue, [long, {:term, long}])
      assert_receive {:handled, %{data: ^long}}
      assert_receive {:handled, %{data: {:term, ^long}}}
      settled(queue, 2)
    end

    test "go through batchers, and are acknowledged by the batch" do
      queue = queue!()
      test = self()

      pipeline!(queue,
        handle: &Message.put_batcher(&1, if(rem(&1.data, 2) == 0, do: :even, else: :odd)),
        batch: fn messages ->
          send(test, {:batch, Enum.map(messages, & &1.data)})
          messages
        end,
        batchers: [even: [batch_size: 10, batch_timeout: 20], odd: [batch_size: 10, batch_timeout: 20]]
      )

      enqueue!(queue, Enum.to_list(1..100))
      assert Enum.sort(batched(100)) == Enum.to_list(1..100)
      settled(queue, 100)
      assert_conserved(queue)
    end

    defp batched(0), do: []

    defp batched(n) do
      assert_receive {:batch, items}
      assert items |> Enum.map(&rem(&1, 2)) |> Enum.uniq() |> length() == 1
      items ++ batched(n - length(items))
    end
  end

  describe "a failed message" do
    test "is tried again after the backoff, and is a dead letter after the last attempt" do
      queue = queue!(max_attempts: 3, backoff: [min: 1, max: 1])
      test = self()

      pipeline!(queue,
        handle: fn message ->
          send(test, {:attempt, message.metadata.attempt})
          Message.failed(message, :gateway_down)
        end
      )

      enqueue!(queue, [:pay])
      for n <- 1..3, do: assert_receive({:attempt, ^n})
      assert [%{payload: :pay, reason: :gateway_down, attempts: 3}] = dead_letters(queue, 1)
    end

    test "fails by a raise too, with the exception as its reason" do
      queue = queue!(max_attempts: 1)
      pipeline!(queue, handle: fn _ -> raise "no" end)
      enqueue!(queue, [:pay])
      assert [%{reason: {:error, %RuntimeError{message: "no"}, [_ | _]}}] = dead_letters(queue, 1)
    end

    test "is tried again after the time that on_failure: names" do
      queue = queue!(backoff: [min: 1_000_000, max: 1_000_000])
      handle = fn message -> if message.metadata.attempt == 1, do: Message.failed(message, :busy), else: message end
      pipeline!(queue, handle: handle, producer: [on_failure: {:retry, 1}])
      enqueue!(queue, [:pay])
      settled(queue, 1)
    end

    test "waits as long as the producer's own backoff says" do
      queue = queue!(backoff: [min: 1_000_000, max: 1_000_000])
      handle = fn message -> if message.metadata.attempt == 1, do: Message.failed(message, :busy), else: message end
      pipeline!(queue, handle: handle, producer: [backoff: fn 1 -> 0 end])
      enqueue!(queue, [:pay])
      settled(queue, 1)
    end

    test "is a dead letter at once where on_failure: says so, for all messages or for one" do
      queue = queue!(backoff: [min: 0, max: 0])

      pipeline!(queue,
        handle: fn
          %{data: :unknown_account} = message ->
            message |> Message.configure_ack(on_failure: :reject) |> Message.failed(:unknown_account)

          %{metadata: %{attempt: 1}} = message ->
            Message.failed(message, :busy)

          message ->
            message
        end
      )

      enqueue!(queue, [:unknown_account, :pay])
      assert [%{payload: :unknown_account, reason: :unknown_account, attempts: 1}] = dead_letters(queue, 1)
      settled(queue, 1)

      all = queue!()
      pipeline!(all, handle: &Message.failed(&1, :no), producer: [on_failure: :reject])
      enqueue!(all, [1, 2])
      assert [%{reason: :no}, %{reason: :no}] = dead_letters(all, 2)
    end

    test "is settled with on_failure: :ack, and left alone with :noop" do
      queue = queue!()
      pipeline!(queue, handle: &Message.failed(&1, :no), producer: [on_failure: :ack])
      enqueue!(queue, [1])
      settled(queue, 1)

      other = queue!()
      pipeline!(other, handle: telling_message(self()), producer: [on_success: :noop])
      enqueue!(other, [1])
      assert_receive {:handled, %{metadata: %{lease: lease}}}
      let_pass(20)
      assert PaymentQueue.stats(other).in_flight == 1
      assert :ok = PaymentQueue.ack(lease)
    end

    test "has failed, whatever handle_failed/2 makes of its status" do
      queue = queue!(max_attempts: 1)
      reset = fn messages -> Enum.map(messages, &%{&1 | status: :ok}) end
      pipeline!(queue, handle: &Message.failed(&1, :no), failed: reset)
      enqueue!(queue, [1, 2, 3])
      assert [%{reason: :failed}, _, _] = dead_letters(queue, 3)
      assert %{in_flight: 0, settled: 0} = assert_conserved(queue)
    end

    test "may be settled by handle_failed/2" do
      queue = queue!()
      settle = fn messages -> Enum.map(messages, &Message.configure_ack(&1, on_failure: :ack)) end
      pipeline!(queue, handle: &Message.failed(&1, :no), failed: settle)
      enqueue!(queue, [1, 2, 3])
      settled(queue, 3)
    end

    test "or one that succeeded may be acknowledged before the callback is done" do
      queue = queue!()
      test = self()

      handle = fn message ->
        message = if message.data == :bad, do: message |> Message.failed(:no) |> on_failure(:reject), else: message
        message = Message.ack_immediately(message)
        send(test, {:at_once, message.data, PaymentQueue.stats(queue).in_flight})
        message
      end

      pipeline!(queue, handle: handle, processors: [concurrency: 1, max_demand: 1])
      enqueue!(queue, [:good, :bad])
      assert_receive {:at_once, :good, 0}
      assert_receive {:at_once, :bad, 0}
      assert [%{payload: :bad, reason: :no}] = dead_letters(queue, 1)
      assert %{settled: 1} = assert_conserved(queue)
    end

    defp on_failure(message, what), do: Message.configure_ack(message, on_failure: what)

    test "of a batch fails alone" do
      queue = queue!(max_attempts: 1)

      pipeline!(queue,
        handle: & &1,
        batch: fn messages -> Enum.map(messages, &if(&1.data == 3, do: Message.failed(&1, :three), else: &1)) end,
        batchers: [default: [batch_size: 5, batch_timeout: 20]]
      )

      enqueue!(queue, Enum.to_list(1..5))
      assert [%{payload: 3, reason: :three}] = dead_letters(queue, 1)
      settled(queue, 4)
    end
  end

  describe "demand" do
    test "is never exceeded, however slow the processors are" do
      queue = queue!()
      test = self()
      enqueue!(queue, Enum.to_list(1..100))
      pipeline!(queue, handle: &asked(&1, test), processors: [concurrency: 2, max_demand: 5, min_demand: 4])
      eventually(fn -> PaymentQueue.stats(queue) == %{queue_size: 90, in_flight: 10} end)
      let_pass(50)
      assert PaymentQueue.stats(queue) == %{queue_size: 90, in_flight: 10}

      for _ <- 1..100 do
        assert_receive {:asked, processor}
        assert PaymentQueue.stats(queue).in_flight <= 10
        send(processor, :go)
      end

      settled(queue, 100)
    end

    test "without items costs nothing: the pipeline is parked, and the enqueue wakes it" do
      queue = queue!()
      pipeline = pipeline!(queue, handle: telling_message(self()))
      eventually(fn -> PaymentQueue.info(queue).parked == 1 end)
      # The tripwire may be arming still.
      let_pass(50)
      watched = processes(pipeline, "Producer_") ++ processes(pipeline, "PaymentQueue")
      assert length(watched) == 2
      # As in PaymentQueue.WakingTest.
      assert Enum.any?(1..3, fn _ -> growth(watched, 500) <= 60 end)
      enqueue!(queue, [1])
      assert_receive {:handled, %{data: 1}}
    end

    test "works with Broadway's rate limiting" do
      queue = queue!()
      enqueue!(queue, Enum.to_list(1..60))
      pipeline!(queue, handle: telling_message(self()), rate_limiting: [interval: 10, allowed_messages: 7])
      for n <- 1..60, do: assert_receive({:handled, %{data: ^n}})
      settled(queue, 60)
    end

    test "of several producers is met by one holder, each item once" do
      queue = queue!()
      test = self()

      pipeline =
        pipeline!(queue, handle: telling_message(test), producers: 3, processors: [concurrency: 3, max_demand: 2])

      assert [_, _, _] = processes(pipeline, "Producer_")
      enqueue!(queue, Enum.to_list(1..300))
      for n <- 1..300, do: assert_receive({:handled, %{data: ^n}})
      settled(queue, 300)
      assert %{redelivered: 0} = assert_conserved(queue)
    end

    test "by Broadway's partitions keeps the order within each" do
      queue = queue!()
      test = self()

      handle = fn message ->
        send(test, {:handled, message.data, self()})
        message
      end

      pipeline!(queue, handle: handle, partition_by: &rem(&1.data, 5), processors: [concurrency: 3])
      enqueue!(queue, Enum.to_list(1..300))
      handled = for _ <- 1..300, do: assert_receive({:handled, _, _})

      for {_, messages} <- Enum.group_by(handled, fn {:handled, n, _} -> rem(n, 5) end) do
        assert [_] = Enum.uniq_by(messages, fn {:handled, _, processor} -> processor end)
        assert messages == Enum.sort(messages)
      end

      settled(queue, 300)
    end

    test "of a paused queue waits for it to be resumed" do
      queue = queue!()
      PaymentQueue.pause(queue)
      enqueue!(queue, [1])
      pipeline!(queue, handle: telling_message(self()))
      eventually(fn -> PaymentQueue.info(queue).parked == 1 end)
      refute_received {:handled, _}
      PaymentQueue.resume(queue)
      assert_receive {:handled, %{data: 1}}
    end
  end

  defp asked(message, test) do
    send(test, {:asked, self()})

    receive do
      :go -> message
    end
  end

  describe "stopping" do
    test "handles what was taken and leaves the rest in the queue, untouched" do
      queue = queue!()
      enqueue!(queue, Enum.to_list(1..200))
      test = self()
      pipeline = pipeline!(queue, handle: &asked(&1, test), processors: [concurrency: 2, max_demand: 5])
      asked = for _ <- 1..2, do: assert_receive({:asked, _})
      # The processors ask us by messages, so the stop has to wait elsewhere.
      stopping = Task.async(fn -> Broadway.stop(pipeline, :normal, 10_000) end)
      [producer] = processes(pipeline, "Producer_")
      eventually(fn -> :sys.get_state(producer).state.module_state.draining? end)
      for {:asked, processor} <- asked, do: send(processor, :go)
      answer(stopping)

      info = assert_conserved(queue)
      assert info.in_flight == 0
      assert info.settled == 10
      assert info.queue_size == 200 - info.settled
      # Nothing was handled behind the back of the counters, and no attempt was used up.
      rest = PaymentQueue.take_many(200, queue: queue)
      assert Enum.map(rest, fn {n, _} -> n end) == Enum.to_list((info.settled + 1)..200)
      assert Enum.all?(rest, fn {_, lease} -> PaymentQueue.attempt(lease) == 1 end)
    end

    test "takes nothing more, though processors have asked for it" do
      queue = queue!()
      test = self()
      pipeline = pipeline!(queue, handle: &asked(&1, test), processors: [concurrency: 2, max_demand: 5])
      enqueue!(queue, [1])
      assert_receive {:asked, processor}
      # Asked for nine more, and parked.
      eventually(fn -> PaymentQueue.info(queue).parked == 1 end)
      stopping = Task.async(fn -> Broadway.stop(pipeline, :normal, 10_000) end)
      eventually(fn -> PaymentQueue.info(queue).parked == 0 end)
      enqueue!(queue, [2, 3])
      assert PaymentQueue.stats(queue) == %{queue_size: 2, in_flight: 1}
      send(processor, :go)
      answer(stopping)
      assert [{2, lease}, {3, _}] = PaymentQueue.take_many(3, queue: queue)
      assert PaymentQueue.attempt(lease) == 1
      assert %{settled: 1, redelivered: 0} = PaymentQueue.info(queue)
    end

    # The first two are being answered already.
    defp answer(%Task{ref: ref} = stopping) do
      receive do
        {:asked, processor} ->
          send(processor, :go)
          answer(stopping)

        {^ref, :ok} ->
          Process.demonitor(ref, [:flush])
      after
        10_000 -> flunk("not stopped")
      end
    end

    test "of an idle pipeline is done at once" do
      queue = queue!()
      pipeline = pipeline!(queue, handle: & &1)
      eventually(fn -> PaymentQueue.info(queue).parked == 1 end)

      log =
        capture_log(fn ->
          :ok = Broadway.stop(pipeline)
          eventually(fn -> PaymentQueue.info(queue).parked == 0 end)
        end)

      # Nothing went down, as far as the tripwire is concerned.
      refute log =~ to_string(pipeline)
    end
  end

  test "a pipeline without its queue says what to do" do
    Process.flag(:trap_exit, true)

    log =
      capture_log(fn ->
        assert {:error, reason} =
                 Broadway.start_link(PaymentQueue.Pipeline,
                   name: :pipeline_without_queue,
                   context: %{handle: & &1, batch: nil},
                   producer: [module: {PaymentQueue.Producer, queue: :never_started_pipeline}],
                   processors: [default: [concurrency: 1]]
                 )

        assert inspect(reason, limit: :infinity) =~ "was never started"
      end)

    assert is_binary(log)
  end
end
