defmodule PaymentQueue.Baseline.GenServerQueueTest do
  use ExUnit.Case, async: true

  alias PaymentQueue.Baseline.GenServerQueue

  setup context do
    queue = Module.concat(context.module, context.test)
    pid = start_supervised!({GenServerQueue, [name: queue] ++ Map.get(context, :options, [])}, restart: :temporary)
    on_exit(fn -> :persistent_term.erase({GenServerQueue, queue}) end)
    {:ok, queue: queue, pid: pid}
  end

  describe "in peace time" do
    test "the first in is the first out, with the time it waited", %{queue: queue} do
      for n <- 1..100, do: assert(GenServerQueue.enqueue(n, queue) == :ok)
      assert GenServerQueue.stats(queue) == %{queue_size: 100, in_flight: 0}

      for n <- 1..100 do
        assert {:ok, ^n, wait_ms} = GenServerQueue.take(queue)
        assert wait_ms >= 0
      end

      assert GenServerQueue.take(queue) == :empty
      assert GenServerQueue.stats(queue) == %{queue_size: 0, in_flight: 0}
    end

    test "the queue of the whole application is named after the module" do
      start_supervised!(GenServerQueue, id: :default)
      assert GenServerQueue.enqueue(:payment) == :ok
      assert GenServerQueue.stats() == %{queue_size: 1, in_flight: 0}
      assert {:ok, :payment, _wait_ms} = GenServerQueue.take()
      assert GenServerQueue.stop() == :ok
    end

    @tag options: [capacity: 3]
    test "the form that calls keeps its bound exactly", %{queue: queue} do
      results = 1..40 |> Enum.map(&Task.async(fn -> GenServerQueue.enqueue(&1, queue) end)) |> Task.await_many()

      assert Enum.count(results, &(&1 == :ok)) == 3
      assert Enum.count(results, &(&1 == {:error, :queue_full})) == 37
      assert GenServerQueue.stats(queue).queue_size == 3
    end
  end

  describe "exact bound is broken:" do
    test "a cast is :ok while nobody accepts anything, and the mailbox has no bound", %{queue: queue, pid: pid} do
      :sys.suspend(pid)
      for n <- 1..50_000, do: assert(GenServerQueue.enqueue(n, queue) == :ok)
      assert {:message_queue_len, 50_000} = Process.info(pid, :message_queue_len)

      :sys.resume(pid)
      assert GenServerQueue.stats(queue).queue_size == 50_000
    end

    test "a cast is :ok even when the queue is dead", %{queue: queue, pid: pid} do
      kill(pid)
      assert GenServerQueue.enqueue(:payment, queue) == :ok
    end
  end

  test "survival is broken: what is queued dies with the process", %{queue: queue, pid: pid} do
    for n <- 1..10, do: :ok = GenServerQueue.enqueue(n, queue)
    assert GenServerQueue.stats(queue).queue_size == 10

    kill(pid)
    start_supervised!({GenServerQueue, name: queue}, id: :successor)

    assert GenServerQueue.stats(queue) == %{queue_size: 0, in_flight: 0}
    assert GenServerQueue.take(queue) == :empty
  end

  defp kill(pid) do
    monitor = Process.monitor(pid)
    Process.exit(pid, :kill)
    assert_receive {:DOWN, ^monitor, :process, ^pid, :killed}
  end
end
