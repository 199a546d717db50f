defmodule PaymentQueue.Bench.BackPressure do
  @moduledoc """
  A full queue: what a refusal costs, how evenly the places that become free go to the producers, and whether the bound is
  exact. The GenServer queue is here in the form that calls, for only that has a bound.
  """

  alias PaymentQueue.Bench.{Cell, Crew, Floors, Histogram, Payload, WrongResult}

  @capacity 1_000
  @producers 8
  # Enough to be scheduled in between each other even on few cores.
  @racers 64
  @tries_each 100

  @doc "The time of a refusal, by one process; each timed by itself for the percentiles."
  @spec refusal_cell(calls :: pos_integer()) :: Cell.t()
  def refusal_cell(calls) do
    %Cell{
      name: "back-pressure refusal",
      table: :back_pressure,
      rows: [
        Cell.row("refusal", "ns", :lower),
        Cell.row("refusal timed by itself, p50", "ns", :lower),
        Cell.row("refusal timed by itself, p99.9", "ns", :lower)
      ],
      prepare: fn adapter -> refuse(adapter, div(calls, 4)) end,
      measure: fn adapter, _warm_up -> refuse(adapter, calls) end,
      floor: %{
        name: "encode + NIF call",
        measure: fn -> calls |> time_calls(Floors.encode_loop(:map)) |> Enum.map(&(&1 / 1)) end
      }
    }
  end

  defp refuse(adapter, calls) do
    handle = full(adapter)
    template = Payload.build(:map, 0)
    # Called as it is written everywhere: through a variable the module would be looked up.
    put = &adapter.put/2
    times = time_calls(calls, fn id -> {:error, :queue_full} = put.(handle, Payload.with_id(template, id)) end)
    WrongResult.check!("refusals, #{adapter.name()}: still queued", @capacity, adapter.stats(handle).queue_size)
    drain(adapter, handle, @capacity)
    adapter.stop(handle)
    times
  end

  defp time_calls(calls, function) do
    histogram = Histogram.new()
    typical = Floors.nanoseconds(function, calls)
    Floors.nanoseconds(&Histogram.record(histogram, time_one(function, &1)), calls)
    [typical, Histogram.percentile(histogram, 50), Histogram.percentile(histogram, 99.9)]
  end

  defp time_one(function, id) do
    started = System.monotonic_time(:nanosecond)
    function.(id)
    System.monotonic_time(:nanosecond) - started
  end

  @doc "The accepted items of the least served producer to those of the most served, while one worker takes for `ms`."
  @spec fairness_cell(ms :: pos_integer()) :: Cell.t()
  def fairness_cell(ms) do
    %Cell{
      name: "back-pressure fairness",
      table: :back_pressure,
      rows: [Cell.row("fairness: least to most served of #{@producers} producers", "%", :higher, ratio: false)],
      measure: fn adapter, nil -> [fairness(adapter, ms)] end
    }
  end

  defp fairness(adapter, ms) do
    handle = full(adapter)
    stop_at = System.monotonic_time(:millisecond) + ms
    put = &adapter.put/2

    producers =
      for number <- 1..@producers, do: Crew.member(fn -> fn -> compete(put, handle, number, stop_at, 0) end end)

    worker = Crew.member(fn -> fn -> count_until_stop(adapter, handle, nil, 0) end end)
    Crew.go([worker | producers])
    accepted = Crew.await_all(producers)
    stop(adapter, handle)
    taken = Crew.await(worker)

    what = "fairness, #{adapter.name()}"
    WrongResult.check!("#{what}: items taken of those accepted", Enum.sum(accepted) + @capacity, taken)
    WrongResult.check_drained!(what, adapter, handle)
    adapter.stop(handle)
    100 * Enum.min(accepted) / max(Enum.max(accepted), 1)
  end

  defp compete(put, handle, number, stop_at, accepted) do
    if System.monotonic_time(:millisecond) >= stop_at do
      accepted
    else
      case put.(handle, Payload.build(:map, number)) do
        :ok ->
          compete(put, handle, number, stop_at, accepted + 1)

        {:error, :queue_full} ->
          :erlang.yield()
          compete(put, handle, number, stop_at, accepted)
      end
    end
  end

  defp stop(adapter, handle) do
    with {:error, :queue_full} <- adapter.put(handle, :stop) do
      :erlang.yield()
      stop(adapter, handle)
    end
  end

  defp count_until_stop(adapter, handle, last, count) do
    {payload, lease} = adapter.take(handle, last)

    if Payload.id_of(payload) == :stop do
      :ok = adapter.settle(handle, lease)
      count
    else
      count_until_stop(adapter, handle, lease, count + 1)
    end
  end

  @doc "How many items above its capacity a queue accepts when many producers race for the last places."
  @spec bound_cell(races :: pos_integer(), exact :: [module()]) :: Cell.t()
  def bound_cell(races, exact) do
    %Cell{
      name: "back-pressure bound",
      table: :back_pressure,
      rows: [
        Cell.row("bound of #{@capacity}: most accepted above it in #{races} races of #{@racers}", "items", :lower,
          ratio: false
        )
      ],
      measure: fn adapter, nil -> [Enum.max(for _ <- 1..races, do: race(adapter, adapter in exact))] end
    }
  end

  defp race(adapter, exact?) do
    handle = adapter.start_bounded(@capacity)
    put = &adapter.put/2
    racers = for number <- 1..@racers, do: Crew.member(fn -> fn -> fill(put, handle, number, @tries_each) end end)
    Crew.go(racers)
    accepted = racers |> Crew.await_all() |> Enum.sum()

    what = "bound, #{adapter.name()}"
    WrongResult.check!("#{what}: items queued of those accepted", accepted, adapter.stats(handle).queue_size)
    if exact?, do: WrongResult.check!("#{what}: accepted", @capacity, accepted)
    drain(adapter, handle, accepted)
    adapter.stop(handle)
    accepted - @capacity
  end

  defp fill(put, handle, number, tries) do
    Enum.count(1..tries, fn _ -> put.(handle, Payload.build(:map, number)) == :ok end)
  end

  defp full(adapter) do
    handle = adapter.start_bounded(@capacity)
    for id <- 1..@capacity, do: :ok = adapter.put(handle, Payload.build(:map, id))
    handle
  end

  defp drain(adapter, handle, count) do
    last = Enum.reduce(1..count, nil, fn _, last -> elem(adapter.take(handle, last), 1) end)
    :ok = adapter.settle(handle, last)
    WrongResult.check_drained!("back-pressure, #{adapter.name()}", adapter, handle)
  end
end
