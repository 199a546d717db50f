defmodule PaymentQueue.Baseline.EtsQueueTest do
  use ExUnit.Case, async: true

  alias PaymentQueue.Baseline.EtsQueue

  setup context do
    queue = Module.concat(context.module, context.test)
    pid = start_supervised!({EtsQueue, [name: queue] ++ Map.get(context, :options, [])}, restart: :temporary)
    on_exit(fn -> :persistent_term.erase({EtsQueue, queue}) end)
    {:ok, queue: queue, pid: pid}
  end

  describe "in peace time" do
    test "the first in is the first out, with the time it waited", %{queue: queue} do
      for n <- 1..100, do: assert(EtsQueue.enqueue(n, queue) == :ok)
      assert EtsQueue.stats(queue) == %{queue_size: 100, in_flight: 0}
      assert EtsQueue.table_bytes(queue) > 0

      for n <- 1..100 do
        assert {:ok, ^n, wait_ms} = EtsQueue.take(queue)
        assert wait_ms >= 0
      end

      assert EtsQueue.take(queue) == :empty
      assert EtsQueue.stats(queue) == %{queue_size: 0, in_flight: 0}
    end

    test "the queue of the whole application is named after the module" do
      start_supervised!(EtsQueue, id: :default)
      assert EtsQueue.enqueue(:payment) == :ok
      assert EtsQueue.stats() == %{queue_size: 1, in_flight: 0}
      assert {:ok, :payment, _wait_ms} = EtsQueue.take()
      assert EtsQueue.stop() == :ok
      assert_raise ArgumentError, fn -> EtsQueue.enqueue(:payment) end
    end

    test "workers that compete get each item once", %{queue: queue} do
      for n <- 1..5_000, do: :ok = EtsQueue.enqueue(n, queue)

      taken =
        1..8
        |> Enum.map(fn _ -> Task.async(fn -> take_all(queue) end) end)
        |> Task.await_many()

      assert taken |> List.flatten() |> Enum.sort() == Enum.to_list(1..5_000)
      # Each worker sees its own items in order, whoever got those in between.
      for items <- taken, do: assert(items == Enum.sort(items))
    end

    @tag options: [capacity: 3]
    test "one producer alone is refused at the capacity, and let in again after a take", %{queue: queue} do
      assert Enum.map(1..4, &EtsQueue.enqueue(&1, queue)) == [:ok, :ok, :ok, {:error, :queue_full}]
      assert {:ok, 1, _wait_ms} = EtsQueue.take(queue)
      assert EtsQueue.enqueue(5, queue) == :ok
      assert EtsQueue.enqueue(6, queue) == {:error, :queue_full}
    end
  end

  describe "exact bound is broken:" do
    @tag options: [capacity: 1]
    test "every producer that looked before another counted gets in", %{queue: queue} do
      # The two halves of `enqueue/2`, in an order that a scheduler may choose for ten producers.
      room = for _ <- 1..10, do: EtsQueue.room?(queue)
      assert Enum.all?(room)

      for n <- 1..10, do: EtsQueue.insert(n, queue)

      assert EtsQueue.stats(queue).queue_size == 10
    end

    if System.schedulers_online() == 1 do
      @tag skip: "needs two schedulers"
    end

    @tag options: [capacity: 1]
    test "producers released together overrun it through enqueue/2 itself", %{queue: queue} do
      assert Enum.any?(1..20_000, fn _ -> overrun?(queue) end)
    end
  end

  describe "survival is broken:" do
    test "what is queued dies with the owner of the table", %{queue: queue, pid: pid} do
      for n <- 1..10, do: :ok = EtsQueue.enqueue(n, queue)
      kill(pid)

      start_supervised!({EtsQueue, name: queue}, id: :successor)
      assert EtsQueue.stats(queue) == %{queue_size: 0, in_flight: 0}
      assert EtsQueue.take(queue) == :empty
    end

    test "without the owner a producer crashes instead of being refused", %{queue: queue, pid: pid} do
      kill(pid)
      assert_raise ArgumentError, fn -> EtsQueue.enqueue(:payment, queue) end
    end
  end

  # One round: as many producers as schedulers race for the one free place. A barrier of busy readers, not of messages:
  # these would release the producers microseconds apart, while the gap is a hundred nanoseconds wide.
  defp overrun?(queue) do
    producers = System.schedulers_online()
    arrived = :atomics.new(1, [])

    accepted =
      1..producers
      |> Enum.map(fn n ->
        Task.async(fn ->
          :atomics.add(arrived, 1, 1)
          await_all(arrived, producers)
          EtsQueue.enqueue(n, queue)
        end)
      end)
      |> Task.await_many()
      |> Enum.count(&(&1 == :ok))

    assert length(take_all(queue)) == accepted
    accepted > 1
  end

  defp await_all(arrived, producers) do
    if :atomics.get(arrived, 1) < producers, do: await_all(arrived, producers)
  end

  defp take_all(queue) do
    case EtsQueue.take(queue) do
      {:ok, item, _wait_ms} -> [item | take_all(queue)]
      :empty -> []
    end
  end

  defp kill(pid) do
    monitor = Process.monitor(pid)
    Process.exit(pid, :kill)
    assert_receive {:DOWN, ^monitor, :process, ^pid, :killed}
  end
end
