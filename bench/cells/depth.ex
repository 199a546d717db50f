defmodule PaymentQueue.Bench.Depth do
  @moduledoc """
  What enqueue, take and settle of one item cost by one process, while few and while many items wait.

  Each sample fills the same queue to one depth after the other, and drains it, so that their ratio comes from one run. In a
  VM of its own: ten million items of the replaced queues are gigabytes.
  """

  alias PaymentQueue.Bench.{Adapter, Cell, ChildVm, Floors, Goal, Machine, Payload, Statistics, WrongResult}

  @slices 5

  @doc "A cell of so many operations at each depth, rising. The goals are about the ratio of the deepest to the first."
  @spec cell([pos_integer(), ...], operations :: pos_integer(), rounds :: :all | pos_integer(), [Goal.t()]) :: Cell.t()
  def cell(depths, operations, rounds, goals) do
    deepest = List.last(depths)

    %Cell{
      name: "depth #{Machine.count(deepest)}",
      table: :scaling,
      rounds: rounds,
      timed: false,
      rows:
        for(depth <- depths, do: Cell.row("one item at depth #{Machine.count(depth)}#{to(deepest)}", "ns", :lower)) ++
          [
            Cell.row("depth #{Machine.count(deepest)} / #{Machine.count(hd(depths))}", "×", :lower,
              ratio: false,
              goals: goals
            )
          ],
      measure: fn adapter, nil -> ChildVm.run(__MODULE__, :sample, [adapter, depths, operations]) end,
      floor: %{name: "encode + decode + two NIF calls", measure: fn -> floor(length(depths), operations) end}
    }
  end

  # Rows of different cells have different names.
  defp to(deepest), do: if(deepest > 1_000_000, do: " (to #{Machine.count(deepest)})", else: "")

  defp floor(depths, operations) do
    one =
      Floors.nanoseconds(Floors.encode_loop(:map), operations) +
        Floors.nanoseconds(Floors.decode_loop(:map), operations)

    List.duplicate(one, depths) ++ [1.0]
  end

  @doc "ns at each depth, and the ratio of the last to the first; runs in the child."
  @spec sample(module(), [pos_integer(), ...], pos_integer()) :: [float()]
  def sample(adapter, depths, operations) do
    handle = adapter.start(2 * List.last(depths))
    warm = {_next_in = 0, _next_out = 0, _last_lease = nil}
    {_cost, state} = cost(adapter, handle, warm, div(operations, @slices))

    {costs, {_depth, state}} =
      Enum.map_reduce(depths, {0, state}, fn depth, {present, state} ->
        {ns, state} = cost(adapter, handle, fill(adapter, handle, state, depth - present), operations)
        {ns, {depth, state}}
      end)

    drain(adapter, handle, state)
    adapter.stop(handle)
    costs ++ [List.last(costs) / hd(costs)]
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
    WrongResult.check_drained!("depth, #{adapter.name()}", adapter, handle)
  end

  defp drain(adapter, handle, {next_in, next_out, lease}) do
    drain(adapter, handle, {next_in, next_out + 1, take(adapter, handle, next_out, lease)})
  end

  defp put(adapter, handle, sequence) do
    Adapter.put_retrying(&adapter.put/2, handle, Payload.build(:map, sequence))
  end

  defp take(adapter, handle, expected, lease) do
    {payload, lease} = adapter.take(handle, lease)
    WrongResult.check!("depth, #{adapter.name()}: the next item", expected, Payload.id_of(payload))
    lease
  end
end
