defmodule PaymentQueue.Bench.RequestMemory do
  @moduledoc """
  What a request costs in memory besides its place in the queue: while it is in flight, and on the heaps of the processes that
  put and take it, garbage included.

  The replaced queues keep nothing of what is in flight, and lose it with its worker. Heap is counted in a process whose heap
  is so large that nothing is collected meanwhile; building the payload is counted for the floor and for each queue alike.
  """

  alias PaymentQueue.Bench.{Cell, ChildVm, Memory, Payload}

  @held 50_000
  @calls 1_000
  @heap_words 4_000_000

  @spec in_flight_cell(Payload.kind()) :: Cell.t()
  def in_flight_cell(kind) do
    %Cell{
      name: "memory in flight #{Payload.title(kind)}",
      table: :memory,
      rows: [Cell.row("in flight #{Payload.title(kind)}", "bytes", :lower, ratio: false)],
      rounds: 3,
      timed: false,
      measure: fn adapter, nil -> [ChildVm.run(Memory, :sample_in_flight, [adapter, kind, @held]) / @held] end
    }
  end

  @spec heap_cell(Payload.kind()) :: Cell.t()
  def heap_cell(kind) do
    title = Payload.title(kind)

    %Cell{
      name: "memory heap #{title}",
      table: :memory,
      rows: [
        Cell.row("process heap of an enqueue, #{title}", "bytes", :lower),
        Cell.row("process heap of a take, #{title}", "bytes", :lower)
      ],
      rounds: 3,
      timed: false,
      measure: fn adapter, nil -> heap(adapter, kind) end,
      floor: %{name: "the payload built", measure: fn -> [built(kind), built(kind)] end}
    }
  end

  defp heap(adapter, kind) do
    handle = adapter.start(@calls)
    enqueue = bytes_in_own_process(fn id -> :ok = adapter.put(handle, Payload.build(kind, id)) end)
    take = bytes_in_own_process(fn _id -> adapter.settle(handle, elem(adapter.take(handle, nil), 1)) end)
    adapter.stop(handle)
    [enqueue, take]
  end

  defp built(kind), do: bytes_in_own_process(fn id -> Payload.build(kind, id) end)

  # What a collection finds on the heap after so many calls, less what the one before them left there.
  defp bytes_in_own_process(function) do
    {pid, monitor} = :erlang.spawn_opt(fn -> between_collections(function) end, [:monitor, min_heap_size: @heap_words])
    :erlang.trace(pid, true, [:garbage_collection])
    send(pid, :go)

    receive do
      {:DOWN, ^monitor, :process, ^pid, :normal} -> :ok
      {:DOWN, ^monitor, :process, ^pid, reason} -> exit(reason)
    end

    [_, {:gc_major_end, left}, {:gc_major_start, found}, _] = collections(pid)
    (found[:heap_size] - left[:heap_size]) * :erlang.system_info(:wordsize) / (@calls - 1)
  end

  defp between_collections(function) do
    receive do
      :go -> function.(0)
    end

    :erlang.garbage_collect()
    for id <- 2..@calls, do: function.(id)
    :erlang.garbage_collect()
  end

  # They were sent before the process could end.
  defp collections(pid) do
    receive do
      {:trace, ^pid, event, info} -> [{event, info} | collections(pid)]
    after
      0 -> []
    end
  end
end
