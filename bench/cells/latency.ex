defmodule PaymentQueue.Bench.Latency do
  @moduledoc """
  How long one enqueue takes, each timed by itself, with two busy producers: alone, and while two workers take.

  The time includes that of reading the clock twice (some 20 ns each), for the floor as for the queues. Refusals of a full
  queue are not counted here; the back-pressure table has them.
  """

  alias PaymentQueue.Bench.{Cell, Crew, Floors, Goal, Histogram, Loops, Payload, Tally, WrongResult}

  @producers 2

  @doc "A cell of so many enqueues by each producer."
  @spec cell(workers :: 0 | pos_integer(), per_producer :: pos_integer()) :: Cell.t()
  def cell(workers, per_producer) do
    under = if workers == 0, do: "alone", else: "beside #{workers} workers"
    goals = if workers == 0, do: %{p50: [Goal.at_most(0.5)], p999: [Goal.at_most(20)]}, else: %{p50: [], p999: []}

    %Cell{
      name: "latency #{under}",
      table: :latency,
      rows: [
        Cell.row("enqueue #{under}, p50", "µs", :lower, goals: goals.p50),
        Cell.row("enqueue #{under}, p99", "µs", :lower),
        Cell.row("enqueue #{under}, p99.9", "µs", :lower, goals: goals.p999),
        Cell.row("enqueue #{under}, max", "µs", :lower)
      ],
      prepare: fn adapter -> measure(adapter, workers, div(per_producer, 4)) end,
      measure: fn adapter, _warm_up -> measure(adapter, workers, per_producer) end,
      floor: %{name: "encode + NIF call", measure: fn -> bare(per_producer) end}
    }
  end

  defp measure(adapter, workers, per_producer) do
    count = @producers * per_producer
    # Where nobody takes, all must fit, and what is too much must be seen rather than refused.
    handle = adapter.start(if workers == 0, do: 2 * count, else: Payload.capacity(:map))
    producers = for number <- 0..(@producers - 1), do: producer(adapter, handle, number, per_producer)
    takers = for _ <- 1..workers//1, do: taker(adapter, handle, Tally.unordered())

    Crew.go(producers ++ takers)
    histograms = Crew.await_all(producers)
    takers = if takers == [], do: [checker(adapter, handle)], else: takers
    Loops.stop_workers(adapter, handle, length(takers))
    total = takers |> Crew.await_all() |> Tally.total()

    what = "latency, #{adapter.name()}"
    WrongResult.check!("#{what}: {count, sum, xor, out of order}", Tally.expected(count), total)
    WrongResult.check_drained!(what, adapter, handle)
    adapter.stop(handle)
    percentiles(histograms)
  end

  defp producer(adapter, handle, number, per_producer) do
    Crew.member(fn ->
      histogram = Histogram.new()
      ids = Loops.ids(number, @producers, per_producer)
      put = &adapter.put/2
      fn -> produce(put, handle, Payload.build(:map, number), ids, histogram) end
    end)
  end

  defp produce(_put, _handle, _template, %{first: stop, stop: stop}, histogram), do: histogram

  defp produce(put, handle, template, %{first: id} = ids, histogram) do
    payload = Payload.with_id(template, id)
    started = System.monotonic_time()
    result = put.(handle, payload)
    ended = System.monotonic_time()

    case result do
      :ok ->
        Histogram.record(histogram, nanoseconds(ended - started))
        produce(put, handle, template, %{ids | first: id + ids.step}, histogram)

      {:error, :queue_full} ->
        :erlang.yield()
        produce(put, handle, template, ids, histogram)
    end
  end

  defp checker(adapter, handle) do
    checker = taker(adapter, handle, Tally.ordered(@producers))
    Crew.go([checker])
    checker
  end

  defp taker(adapter, handle, tally) do
    Crew.member(fn ->
      fn ->
        {tally, lease} = Loops.work(&adapter.take/2, handle, tally)
        :ok = adapter.settle(handle, lease)
        tally
      end
    end)
  end

  defp bare(per_producer) do
    crew =
      for number <- 0..(@producers - 1) do
        Crew.member(fn ->
          histogram = Histogram.new()
          once = Floors.encode_loop(:map)
          fn -> time_each(once, number, per_producer, histogram) end
        end)
      end

    Crew.go(crew)
    crew |> Crew.await_all() |> percentiles()
  end

  defp time_each(_once, _id, 0, histogram), do: histogram

  defp time_each(once, id, left, histogram) do
    started = System.monotonic_time()
    once.(id)
    Histogram.record(histogram, nanoseconds(System.monotonic_time() - started))
    time_each(once, id, left - 1, histogram)
  end

  defp percentiles(histograms), do: histograms |> Histogram.merge() |> Histogram.typical_us()

  defp nanoseconds(native), do: System.convert_time_unit(native, :native, :nanosecond)
end
