defmodule PaymentQueue.Bench.Memory do
  @moduledoc """
  Memory of queued items: as the queue or its runtime accounts for it, and as the OS sees a VM grow (RSS).
  """

  alias PaymentQueue.Bench.{Cell, ChildVm, Goal, Machine, Payload, WrongResult}

  @sample_timeout_ms 120_000
  @warm_up_items 100
  @mebibyte 1_048_576

  @doc "A cell of the bytes per item when so many are queued. The goals are about what the queue accounts for."
  @spec cell(Payload.kind(), count :: pos_integer(), [Goal.t()]) :: Cell.t()
  def cell(kind, count, goals) do
    title = "queued #{Payload.title(kind)}"
    bytes = byte_size(:erlang.term_to_binary(Payload.build(kind, 0)))
    rows = [Cell.row(title, "bytes", :lower, goals: goals), Cell.row("#{title}, RSS", "bytes", :lower)]
    cell(title, kind, count, rows, count, %{name: "the payload encoded", measure: fn -> [bytes, bytes] end})
  end

  @doc "A cell of the MiB that so many queued maps take."
  @spec total_cell(count :: pos_integer()) :: Cell.t()
  def total_cell(count) do
    title = "#{Machine.count(count)} queued maps"
    rows = [Cell.row(title, "MiB", :lower), Cell.row("#{title}, RSS", "MiB", :lower)]
    %{cell(title, :map, count, rows, @mebibyte, nil) | rounds: 2}
  end

  defp cell(title, kind, count, rows, divisor, floor) do
    %Cell{
      name: "memory #{title}",
      table: :memory,
      rows: rows,
      floor: floor,
      rounds: 3,
      timed: false,
      measure: fn adapter, nil ->
        for bytes <- ChildVm.run(__MODULE__, :sample, [adapter, kind, count]), do: bytes && bytes / divisor
      end
    }
  end

  @doc "Fills a queue, and empties it to check that it held everything; `[accounted, resident]` bytes in all."
  @spec sample(module(), Payload.kind(), pos_integer()) :: [number() | nil]
  def sample(adapter, kind, count) do
    accounted_before = warm_up(adapter, kind)
    resident_before = Machine.resident_bytes()
    handle = adapter.start(count)
    fill(adapter, handle, kind, count)
    accounted = adapter.bytes(handle) - accounted_before
    resident = resident_before && Machine.resident_bytes() - resident_before

    WrongResult.check!("memory, #{adapter.name()}: items queued", count, adapter.stats(handle).queue_size)
    drain(adapter, handle, count)
    adapter.stop(handle)
    [accounted, resident]
  end

  @doc "As `sample/3`, but all items are taken and none is settled."
  @spec sample_in_flight(module(), Payload.kind(), pos_integer()) :: number()
  def sample_in_flight(adapter, kind, count) do
    accounted_before = warm_up(adapter, kind)
    handle = adapter.start(count)
    fill(adapter, handle, kind, count)
    {leases, accounted} = hold(adapter, handle, count)
    Enum.each(leases, fn lease -> :ok = adapter.settle(handle, lease) end)
    WrongResult.check_drained!("memory in flight, #{adapter.name()}", adapter, handle)
    adapter.stop(handle)
    accounted - accounted_before
  end

  # What is loaded and allocated by first use is not counted; what a queue allocates in advance for its capacity is.
  defp warm_up(adapter, kind) do
    handle = adapter.start(@warm_up_items)
    fill(adapter, handle, kind, @warm_up_items)
    drain(adapter, handle, @warm_up_items)
    accounted = adapter.bytes(handle)
    adapter.stop(handle)
    accounted
  end

  # By a process of its own, whose heap goes with it.
  defp fill(adapter, handle, kind, count) do
    Task.await(
      Task.async(fn ->
        for sequence <- 0..(count - 1), do: :ok = adapter.put(handle, Payload.build(kind, sequence))
        :ok
      end),
      @sample_timeout_ms
    )
  end

  # The payloads are dropped: the holder's own heap is the same whatever queue it takes from.
  defp hold(adapter, handle, count) do
    leases =
      for expected <- 0..(count - 1) do
        {payload, lease} = adapter.take(handle, nil)
        WrongResult.check!("memory in flight, #{adapter.name()}: the next item", expected, Payload.id_of(payload))
        lease
      end

    :erlang.garbage_collect()
    {leases, adapter.bytes(handle)}
  end

  defp drain(adapter, handle, count) do
    lease =
      Enum.reduce(0..(count - 1), nil, fn expected, last ->
        {payload, lease} = adapter.take(handle, last)
        WrongResult.check!("memory, #{adapter.name()}: the next item", expected, Payload.id_of(payload))
        lease
      end)

    :ok = adapter.settle(handle, lease)
    WrongResult.check_drained!("memory, #{adapter.name()}", adapter, handle)
  end
end
