defmodule PaymentQueue.Workers.WorkerTest do
  use PaymentQueue.QueueCase, async: true

  import ExUnit.CaptureLog

  defp backoff, do: [min: 1, max: 1, jitter: 0]

  defp start(opts), do: queue!(Keyword.merge([handler: asking(self()), concurrency: 1, backoff: backoff()], opts))

  defp handled(payload) do
    assert_receive {:handling, worker, ^payload}
    worker
  end

  defp answer(payload, value), do: send(handled(payload), {:return, value})

  describe "what the handler returns" do
    test ":ok and {:ok, _} settle" do
      queue = start([])
      {:ok, 2} = PaymentQueue.enqueue_many([1, 2], queue: queue)
      answer(1, :ok)
      answer(2, {:ok, :receipt})
      eventually(fn -> PaymentQueue.info(queue).settled == 2 end)
      assert %{in_flight: 0, redelivered: 0} = assert_conserved(queue)
    end

    test "{:error, reason} is tried again with the next attempt, and is a dead letter after the last" do
      queue = start(max_attempts: 3)
      :ok = PaymentQueue.enqueue(:pay, queue: queue)
      for _ <- 1..3, do: answer(:pay, {:error, {:declined, 51}})
      assert [%{payload: :pay, reason: {:declined, 51}, attempts: 3}] = dead_letters(queue, 1)
      assert %{redelivered: 2, dead: 1} = assert_conserved(queue)
    end

    test "the backoff delays the next attempt" do
      test = self()

      backoff = fn attempt ->
        send(test, {:backoff, attempt})
        60_000
      end

      queue = start(backoff: backoff)
      :ok = PaymentQueue.enqueue(:pay, queue: queue)
      answer(:pay, {:error, :down})
      assert_receive {:backoff, 1}
      eventually(fn -> match?(%{scheduled: 1, in_flight: 0, queue_size: 0}, PaymentQueue.info(queue)) end)
      assert_conserved(queue)
    end

    test "{:cancel, reason} is a dead letter now" do
      queue = start([])
      :ok = PaymentQueue.enqueue(:pay, queue: queue)
      answer(:pay, {:cancel, :fraud})
      assert [%{payload: :pay, reason: :fraud, attempts: 1}] = dead_letters(queue, 1)
    end

    test "{:snooze, ms} comes later and uses no attempt" do
      queue = start(max_attempts: 1)
      :ok = PaymentQueue.enqueue(:pay, queue: queue)
      for _ <- 1..3, do: answer(:pay, {:snooze, 1})
      answer(:pay, {:snooze, 0})
      answer(:pay, :ok)
      eventually(fn -> PaymentQueue.info(queue).settled == 1 end)
      assert PaymentQueue.dead_letters(queue) == []
    end

    test "anything else is an error that names the value" do
      queue = start(max_attempts: 1)
      :ok = PaymentQueue.enqueue(:pay, queue: queue)
      answer(:pay, :paid)
      assert [%{reason: {:bad_return, :paid}}] = dead_letters(queue, 1)
    end

    test "a raise, a throw and an exit are errors, and the worker goes on" do
      queue = start(max_attempts: 1)
      {:ok, 3} = PaymentQueue.enqueue_many([1, 2, 3], queue: queue)
      worker = handled(1)
      send(worker, {:return, fn -> raise "no route" end})
      answer(2, fn -> throw(:ball) end)
      answer(3, fn -> exit(:gone) end)
      letters = dead_letters(queue, 3)

      assert [{:error, %RuntimeError{message: "no route"}, [_ | _]}, {:throw, :ball, _}, {:exit, :gone, _}] =
               Enum.map(letters, & &1.reason)

      assert Process.alive?(worker)
    end
  end

  describe "a worker" do
    test "that is killed gives its item back at once, and is replaced" do
      queue = start([])
      :ok = PaymentQueue.enqueue(:pay, queue: queue)
      first = handled(:pay)
      kill(first)
      second = handled(:pay)
      refute first == second
      send(second, {:return, :ok})
      eventually(fn -> PaymentQueue.info(queue).settled == 1 end)
      assert %{redelivered: 1} = assert_conserved(queue)
    end

    test "survives linked processes of its handler" do
      queue = start([])
      {:ok, 2} = PaymentQueue.enqueue_many([1, 2], queue: queue)
      worker = handled(1)

      send(
        worker,
        {:return,
         fn ->
           pid = spawn_link(fn -> exit(:crash) end)
           monitor = Process.monitor(pid)
           assert_receive {:DOWN, ^monitor, _, _, _}
           :ok
         end}
      )

      assert handled(2) == worker
      send(worker, {:return, :ok})
    end

    test "drops what handlers leave in the mailbox, busy or parked" do
      queue = start([])
      :ok = PaymentQueue.enqueue(1, queue: queue)
      worker = handled(1)
      for n <- 1..1_000, do: send(worker, {:stray, n})
      send(worker, {:return, :ok})
      eventually(fn -> PaymentQueue.info(queue).parked == 1 end)
      send(worker, :stray)
      send(worker, {:payment_queue, :delivered, 1, :not_a_lease})
      eventually(fn -> Process.info(worker, :message_queue_len) == {:message_queue_len, 0} end)
      :ok = PaymentQueue.enqueue(2, queue: queue)
      assert handled(2) == worker
      send(worker, {:return, :ok})
    end

    test "handles large payloads, found and delivered" do
      queue = start([])
      big = :binary.copy("x", 400_000)
      {:ok, 2} = PaymentQueue.enqueue_many([big, {big}], queue: queue)
      answer(big, :ok)
      answer({big}, :ok)
      eventually(fn -> PaymentQueue.info(queue).parked == 1 end)
      :ok = PaymentQueue.enqueue({big, 2}, queue: queue)
      answer({big, 2}, :ok)
      eventually(fn -> PaymentQueue.info(queue).settled == 3 end)
    end
  end

  describe "the log" do
    @card "4111111111111111"

    test "has one line per failure: warning, then error; never the payload" do
      test = self()

      handler = fn %{card: card} = payload ->
        send(test, :handling)
        %{unknown: _} = Map.put(payload, :copy, card)
      end

      log =
        capture_log(fn ->
          queue = start(handler: handler, max_attempts: 2)
          :ok = PaymentQueue.enqueue(%{card: @card}, queue: queue)
          logged(queue)
          send(test, {:queue, queue})
        end)

      assert_received {:queue, queue}
      assert [warning, error] = lines(log, queue)
      assert warning =~ "[warn"
      assert warning =~ "attempt 1 failed, tried again in 1 ms: MatchError"
      assert error =~ "[error]"
      assert error =~ "attempt 2 failed for the last time, now a dead letter: MatchError"
      refute log =~ "4111"
      assert log =~ "worker_test.exs"
    end

    test "carries queue, attempt and reason as metadata" do
      format = "$metadata|$message\n"

      log =
        capture_log([format: format, metadata: [:queue, :attempt, :reason]], fn ->
          queue = start(name: :metadata_queue)
          :ok = PaymentQueue.enqueue(:pay, queue: queue)
          answer(:pay, {:cancel, :fraud})
          logged(queue)
        end)

      assert log =~ "queue=metadata_queue attempt=1 reason=:fraud"
    end

    test "says once that a worker was killed" do
      queue = start([])

      log =
        capture_log(fn ->
          :ok = PaymentQueue.enqueue(:pay, queue: queue)
          kill(handled(:pay))
          answer(:pay, :ok)
        end)

      assert [line] = lines(log, queue)
      assert line =~ "died: :killed; what it held is back in the queue"
    end

    # A worker that is parked again has logged what it did before.
    defp logged(queue), do: eventually(fn -> match?(%{dead: 1, parked: 1}, PaymentQueue.info(queue)) end)

    # Other tests log at the same time.
    defp lines(log, queue), do: log |> String.split("\n") |> Enum.filter(&(&1 =~ "PaymentQueue #{inspect(queue)}:"))
  end

  test "many items through many workers: each once, all settled" do
    queue = start(handler: telling(self()), concurrency: 8, capacity: 100_000)

    for chunk <- Enum.chunk_every(1..20_000, 500), do: {:ok, 500} = PaymentQueue.enqueue_many(chunk, queue: queue)
    for n <- 1..20_000, do: assert_receive({:handled, ^n})
    refute_received {:handled, _}
    eventually(fn -> PaymentQueue.info(queue).settled == 20_000 end)
    assert_conserved(queue)
  end
end
