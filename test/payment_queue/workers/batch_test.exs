defmodule PaymentQueue.Workers.BatchTest do
  use PaymentQueue.QueueCase, async: true

  defp start(opts) do
    defaults = [handler: asking(self()), concurrency: 1, backoff: [min: 1, max: 1, jitter: 0]]
    queue!(Keyword.merge(defaults, opts))
  end

  defp answer(payloads, value) do
    assert_receive {:handling, worker, ^payloads}
    send(worker, {:return, value})
    worker
  end

  test "the handler gets what is there, up to the size, at once" do
    queue = start(batch: [size: 3], concurrency: 0)
    {:ok, 7} = PaymentQueue.enqueue_many([1, 2, 3, 4, 5, 6, 7], queue: queue)
    :ok = PaymentQueue.scale(queue, 1)
    answer([1, 2, 3], :ok)
    answer([4, 5, 6], {:ok, :receipt})
    answer([7], :ok)
    eventually(fn -> PaymentQueue.info(queue).settled == 7 end)
    assert_conserved(queue)
  end

  test "a batch of one is still a list" do
    queue = start(batch: [size: 3])
    :ok = PaymentQueue.enqueue(1, queue: queue)
    answer([1], :ok)
  end

  test "a batch fills up while it waits, and does not wait when it is full" do
    queue = start(batch: [size: 3, wait: 60_000])
    :ok = PaymentQueue.enqueue(1, queue: queue)
    eventually(fn -> PaymentQueue.info(queue) |> Map.take([:in_flight, :parked]) == %{in_flight: 1, parked: 1} end)
    :ok = PaymentQueue.enqueue(2, queue: queue)
    big = :binary.copy("x", 300_000)
    :ok = PaymentQueue.enqueue({big}, queue: queue)
    answer([1, 2, {big}], :ok)
    eventually(fn -> PaymentQueue.info(queue).settled == 3 end)
  end

  test "what is there when the time is over is handled" do
    queue = start(batch: [size: 100, wait: 20])
    :ok = PaymentQueue.enqueue(1, queue: queue)
    answer([1], :ok)
    eventually(fn -> PaymentQueue.info(queue).settled == 1 end)
  end

  test "one value goes for all, a list one by one" do
    queue = start(batch: [size: 4], concurrency: 0, max_attempts: 2)
    {:ok, 4} = PaymentQueue.enqueue_many([1, 2, 3, 4], queue: queue)
    :ok = PaymentQueue.scale(queue, 1)
    answer([1, 2, 3, 4], [:ok, {:error, :down}, {:cancel, :fraud}, {:snooze, 1}])
    again = batch() ++ batch()
    assert Enum.sort(again) == [2, 4]
    eventually(fn -> PaymentQueue.info(queue).settled == 3 end)
    assert [%{payload: 3, reason: :fraud, attempts: 1}] = PaymentQueue.dead_letters(queue)
    assert_conserved(queue)
  end

  # The two may come back together or one after the other.
  defp batch do
    receive do
      {:handling, worker, payloads} ->
        send(worker, {:return, :ok})
        payloads
    after
      200 -> []
    end
  end

  test "a raise, a wrong list, or a kill concerns all" do
    queue = start(batch: [size: 2, wait: 60_000], max_attempts: 3)
    {:ok, 2} = PaymentQueue.enqueue_many([1, 2], queue: queue)
    answer([1, 2], fn -> raise "no" end)
    answer([1, 2], [:ok])
    assert_receive {:handling, worker, [1, 2]}
    kill(worker)
    letters = dead_letters(queue, 2)
    assert [%{payload: 1, attempts: 3, reason: :consumer_down}, %{payload: 2}] = letters
    assert_conserved(queue)
  end

  test "handler_timeout concerns all" do
    queue = start(batch: [size: 2, wait: 60_000], max_attempts: 1, handler_timeout: 200)
    {:ok, 2} = PaymentQueue.enqueue_many([1, 2], queue: queue)
    assert_receive {:handling, _, [1, 2]}
    letters = dead_letters(queue, 2)
    assert Enum.map(letters, & &1.reason) == [:timeout, :timeout]
  end

  test "a stop while a batch is filling runs what is there, then stops" do
    queue = start(batch: [size: 10, wait: 60_000])
    {:ok, 2} = PaymentQueue.enqueue_many([1, 2], queue: queue)
    eventually(fn -> PaymentQueue.info(queue) |> Map.take([:in_flight, :parked]) == %{in_flight: 2, parked: 1} end)
    :ok = PaymentQueue.scale(queue, 0)
    worker = answer([1, 2], :ok)
    monitor = Process.monitor(worker)
    assert_receive {:DOWN, ^monitor, _, _, _}
    assert PaymentQueue.info(queue).settled == 2
  end
end
