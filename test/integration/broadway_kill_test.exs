defmodule PaymentQueue.BroadwayKillTest do
  # What becomes of items when processes of a real Broadway pipeline are killed under load.
  use PaymentQueue.QueueCase, async: true

  import PaymentQueue.Pipeline

  @moduletag :broadway
  @moduletag timeout: 120_000
  @compile {:no_warn_undefined, [Broadway, Broadway.Message]}

  @items 2_000

  # Who is working on which item: `{:running, n} => pid`, and how often an item was finished: `{:done, n} => times`.
  setup do
    %{queue: queue!(max_attempts: 1_000), table: :ets.new(:work, [:public, :set])}
  end

  # Whoever begins an item while another living process works on it has caught the pipeline paying twice.
  defp begin(table, n) do
    me = self()

    case :ets.lookup(table, {:running, n}) do
      [{_, pid}] when pid != me -> if Process.alive?(pid), do: :ets.insert(table, {{:twice, n}})
      _ -> :ok
    end

    :ets.insert(table, {{:running, n}, me})
  end

  defp finish(table, n) do
    :ets.delete(table, {:running, n})
    :ets.update_counter(table, {:done, n}, 1, {{:done, n}, 0})
  end

  defp handle(table) do
    fn message ->
      begin(table, message.data)
      # Long enough to be killed in.
      if rem(message.data, 5) == 0, do: let_pass(1)
      finish(table, message.data)
      message
    end
  end

  defp handled(table), do: for([n] <- :ets.match(table, {{:done, :"$1"}, :_}), do: n)
  defp twice(table), do: :ets.match(table, {{:twice, :"$1"}})

  defp enqueue_all(queue) do
    {:ok, @items} = PaymentQueue.enqueue_many(Enum.to_list(1..@items), queue: queue)
  end

  # Kills one process of the kinds after the other, spread over the way through the items.
  defp kill_storm(queue, pipeline, kinds, kills) do
    for n <- 1..kills do
      eventually(fn -> PaymentQueue.info(queue).settled >= div(n * @items, kills + 2) end, 2_000)
      victims = eventually(fn -> with [] <- Enum.flat_map(kinds, &processes(pipeline, &1)), do: nil end)
      Process.exit(Enum.random(victims), :kill)
    end
  end

  defp assert_all_handled(queue, table) do
    eventually(fn -> PaymentQueue.info(queue).settled == @items end, 6_000)
    info = assert_conserved(queue)
    assert %{in_flight: 0, queue_size: 0, dead: 0} = info
    assert Enum.sort(handled(table)) == Enum.to_list(1..@items)
    assert twice(table) == []
    info
  end

  for kind <- ["Processor_", "Producer_"] do
    test "#{kind}s: everything is handled, and nothing by two at once", %{queue: queue, table: table} do
      pipeline = pipeline!(queue, handle: handle(table), processors: [concurrency: 4], max_restarts: 10_000)

      enqueue_all(queue)
      kill_storm(queue, pipeline, [unquote(kind)], 10)
      info = assert_all_handled(queue, table)
      # A killed processor had items. What a killed producer passed on is handled by those who have it.
      assert unquote(kind) == "Producer_" or info.redelivered > 0
    end
  end

  test "batchers, batch processors and all others", %{queue: queue, table: table} do
    pipeline =
      pipeline!(queue,
        handle: fn message -> message end,
        batch: fn messages -> Enum.map(messages, handle(table)) end,
        batchers: [default: [concurrency: 2, batch_size: 20, batch_timeout: 10]],
        max_restarts: 10_000
      )

    enqueue_all(queue)
    kill_storm(queue, pipeline, ["Batcher_", "BatchProcessor_", "Processor_", "Producer_"], 12)
    assert_all_handled(queue, table)
  end

  test "the holder: items are back at once, and late acknowledgements are refused", %{queue: queue} do
    test = self()

    handle = fn message ->
      send(test, {:handling, self(), message.metadata.attempt})
      if message.metadata.attempt == 1, do: receive(do: (:go -> message)), else: message
    end

    pipeline = pipeline!(queue, handle: handle, processors: [concurrency: 1])
    :ok = PaymentQueue.enqueue(1, queue: queue)
    assert_receive {:handling, processor, 1}
    [holder] = processes(pipeline, "PaymentQueue")
    kill(holder)
    eventually(fn -> PaymentQueue.stats(queue) == %{queue_size: 1, in_flight: 0} end)
    send(processor, :go)
    assert_receive {:handling, _, 2}
    eventually(fn -> PaymentQueue.info(queue).settled == 1 end)
    assert_conserved(queue)
  end

  test "an item is not given out again before the handler that runs it is done", %{queue: queue} do
    test = self()

    handle = fn message ->
      send(test, {:handling, self(), message.data, message.metadata.attempt})
      if message.metadata.attempt == 1, do: receive(do: (:go -> message)), else: message
    end

    pipeline =
      pipeline!(queue, handle: handle, processors: [concurrency: 2, max_demand: 1, min_demand: 0], max_restarts: 100)

    {:ok, 2} = PaymentQueue.enqueue_many([1, 2], queue: queue)
    assert_receive {:handling, first, one, 1}
    assert_receive {:handling, second, two, 1}
    kill(first)
    # The item of the one that is dead waits for the one that is not.
    let_pass(50)
    assert PaymentQueue.stats(queue).queue_size == 0
    refute_received {:handling, _, _, _}
    send(second, :go)
    assert_receive {:handling, _, ^one, 2}
    eventually(fn -> PaymentQueue.info(queue).settled == 2 end)
    refute_received {:handling, _, ^two, _}
    assert length(processes(pipeline, "Processor_")) == 2
  end

  test "the whole pipeline: what it had is back in the queue", %{queue: queue} do
    test = self()
    pipeline = pipeline!(queue, handle: fn _ -> hold_on(test, :handling) end)
    {:ok, 2} = PaymentQueue.enqueue_many([1, 2], queue: queue)
    assert_receive :handling
    kill(Process.whereis(pipeline))
    kill(Process.whereis(:"#{pipeline}.Broadway.Supervisor") || self_that_is_gone())
    eventually(fn -> PaymentQueue.stats(queue) == %{queue_size: 2, in_flight: 0} end)
  end

  defp hold_on(test, message) do
    send(test, message)
    receive(do: (:never -> :ok))
  end

  # The supervisor may be gone with the pipeline already.
  defp self_that_is_gone, do: spawn(fn -> :ok end)
end
