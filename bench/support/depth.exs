defmodule PaymentQueue.Bench.Depth do
  @moduledoc """
  What enqueue, take and settle of one item cost by one process, while a thousand and while a million items wait.

  Each sample fills the same queue to both depths, and drains it, so that their ratio comes from one run.
  """

  alias PaymentQueue.Bench.{Adapter, Cell, Payload, Statistics}

  @shallow 1_000
  @deep 1_000_000
  @slices 5

  @doc "A cell of so many operations at each depth. `goal` is the most that the ratio deep / shallow of native may be."
  @spec cell(operations :: pos_integer(), goal :: number()) :: Cell.t()
  def cell(operations, goal) do
    %Cell{
      name: "depth",
      rows: [
        %{name: "enqueue+take+ack at depth 1 K", unit: "ns"},
        %{name: "enqueue+take+ack at depth 1 M", unit: "ns"},
        %{name: "depth 1 M / depth 1 K", unit: "×", ratio: false, goal: {:value, :at_most, goal}}
      ],
      prepare: fn adapter -> measure(adapter, @slices) end,
      measure: fn adapter, _warm_up -> measure(adapter, operations) end
    }
  end

  defp measure(adapter, operations) do
    handle = adapter.start(2 * @deep)
    state = {_next_in = 0, _next_out = 0, _last_lease = nil}

    state = fill(adapter, handle, state, @shallow)
    {shallow, state} = cost(adapter, handle, state, operations)
    state = fill(adapter, handle, state, @deep - @shallow)
    {deep, state} = cost(adapter, handle, state, operations)
    drain(adapter, handle, state)

    adapter.stop(handle)
    [shallow, deep, deep / shallow]
  end

  defp fill(adapter, handle, {next_in, next_out, lease}, count) do
    for sequence <- next_in..(next_in + count - 1), do: put(adapter, handle, sequence)
    {next_in + count, next_out, lease}
  end

  # The median of slices, so that one descheduling or one collection is not taken for the cost of depth.
  defp cost(adapter, handle, state, operations) do
    per_slice = div(operations, @slices)

    {costs, state} =
      Enum.map_reduce(1..@slices, state, fn _, state ->
        started = System.monotonic_time()
        state = cycle(adapter, handle, state, per_slice)
        elapsed = System.convert_time_unit(System.monotonic_time() - started, :native, :nanosecond)
        {elapsed / per_slice, state}
      end)

    {Statistics.median(costs), state}
  end

  defp cycle(_adapter, _handle, state, 0), do: state

  defp cycle(adapter, handle, {next_in, next_out, lease}, operations) do
    put(adapter, handle, next_in)
    lease = take(adapter, handle, next_out, lease)
    cycle(adapter, handle, {next_in + 1, next_out + 1, lease}, operations - 1)
  end

  defp drain(adapter, handle, {next_out, next_out, lease}) do
    :ok = adapter.settle(handle, lease)
    Cell.check_drained!("depth, #{adapter.name()}", adapter, handle)
  end

  defp drain(adapter, handle, {next_in, next_out, lease}) do
    drain(adapter, handle, {next_in, next_out + 1, take(adapter, handle, next_out, lease)})
  end

  defp put(adapter, handle, sequence) do
    Adapter.put_retrying(&adapter.put/2, handle, Payload.build(:map, Payload.id(0, sequence)))
  end

  defp take(adapter, handle, expected, lease) do
    {payload, lease} = adapter.take(handle, lease)
    Cell.check!("depth, #{adapter.name()}: the next item", expected, Payload.id_of(payload))
    lease
  end
end
