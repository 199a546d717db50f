defmodule PaymentQueue.Bench.Memory do
  @moduledoc """
  Memory per queued item: as the queue or its runtime accounts for it, and as the OS sees this VM grow (RSS).

  Every sample has a VM of its own, for what an allocator keeps from earlier work would hide the growth.
  """

  alias PaymentQueue.Bench.{Cell, Machine, Payload}

  @support Path.join(__DIR__, "load.exs")
  @sample_timeout_ms 120_000
  @warm_up_items 100

  @doc "A cell of so many queued items. `goal` is the most that the ratio native / ETS may be."
  @spec cell(Payload.kind(), count :: pos_integer(), goal :: number() | nil) :: Cell.t()
  def cell(kind, count, goal) do
    row = %{name: "memory per queued #{kind}", unit: "bytes"}

    %Cell{
      name: "memory #{kind}",
      timed: false,
      rows: [
        if(goal, do: Map.put(row, :goal, {:ratio, :at_most, goal}), else: row),
        %{name: "memory per queued #{kind}, RSS", unit: "bytes"}
      ],
      measure: fn adapter, nil -> sample_in_fresh_vm(adapter, kind, count) end
    }
  end

  @doc "Fills a queue, and empties it to check that it held everything; `[accounted, resident]` bytes per item."
  @spec sample(module(), Payload.kind(), pos_integer()) :: [number() | nil]
  def sample(adapter, kind, count) do
    # What is loaded and allocated by first use is not counted; what a queue allocates in advance for its capacity is.
    warm_up = adapter.start(@warm_up_items)
    fill(adapter, warm_up, kind, @warm_up_items)
    drain(adapter, warm_up, @warm_up_items)
    accounted_before = adapter.bytes(warm_up)
    adapter.stop(warm_up)

    resident_before = Machine.resident_bytes()
    handle = adapter.start(count)
    fill(adapter, handle, kind, count)
    accounted = adapter.bytes(handle) - accounted_before
    resident = resident_before && Machine.resident_bytes() - resident_before

    Cell.check!("memory, #{adapter.name()}: items queued", count, adapter.stats(handle).queue_size)
    drain(adapter, handle, count)
    adapter.stop(handle)
    [accounted / count, resident && resident / count]
  end

  defp sample_in_fresh_vm(adapter, kind, count) do
    args = Enum.flat_map(:code.get_path(), fn path -> [~c"-pa", path] end)
    {:ok, peer, _node} = :peer.start_link(%{connection: :standard_io, args: args})
    {:ok, _} = :peer.call(peer, :application, :ensure_all_started, [:elixir])
    {:ok, _} = :peer.call(peer, :application, :ensure_all_started, [:payment_queue])
    _ = :peer.call(peer, Code, :require_file, [@support])
    result = :peer.call(peer, __MODULE__, :sample, [adapter, kind, count], @sample_timeout_ms)
    :peer.stop(peer)
    result
  end

  # By a process of its own, whose heap goes with it.
  defp fill(adapter, handle, kind, count) do
    Task.await(
      Task.async(fn ->
        for sequence <- 0..(count - 1) do
          :ok = adapter.put(handle, Payload.build(kind, Payload.id(0, sequence)))
        end

        :ok
      end),
      @sample_timeout_ms
    )
  end

  defp drain(adapter, handle, count) do
    lease =
      Enum.reduce(0..(count - 1), nil, fn expected, last ->
        {payload, lease} = adapter.take(handle, last)
        Cell.check!("memory, #{adapter.name()}: the next item", expected, Payload.id_of(payload))
        lease
      end)

    :ok = adapter.settle(handle, lease)
    Cell.check_drained!("memory, #{adapter.name()}", adapter, handle)
  end
end
