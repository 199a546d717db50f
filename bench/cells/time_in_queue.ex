defmodule PaymentQueue.Bench.TimeInQueue do
  @moduledoc """
  How long an item is in the queue: from just before its enqueue to the return of its take.

  Paced: one producer puts one item every twenty microseconds, which every queue can follow, and one worker takes them: what is
  measured is the queue itself and how its worker waits. Saturated: two producers as fast as they can and two workers; a
  queue with a bound is then full, and its capacity sets the time.
  """

  alias PaymentQueue.Bench.{Adapter, Cell, Crew, Histogram, Loops, MessageAdapter, Payload, Tally, WrongResult}

  @pace_ns 20_000

  @type load :: :paced | :saturated

  @doc "A cell of so many items a sample."
  @spec cell(load(), items :: pos_integer()) :: Cell.t()
  def cell(load, items) do
    floor = if load == :paced, do: %{name: "a bare message", measure: fn -> measure(MessageAdapter, load, items) end}

    %Cell{
      name: "time in queue #{load}",
      table: :time_in_queue,
      rows: for(name <- ["p50", "p99", "p99.9", "max"], do: Cell.row("#{load}, #{name}", "µs", :lower)),
      prepare: fn adapter -> measure(adapter, load, div(items, 4)) end,
      measure: fn adapter, _warm_up -> measure(adapter, load, items) end,
      floor: floor
    }
  end

  defp measure(adapter, load, items) do
    {crew, pace} = if load == :paced, do: {1, @pace_ns}, else: {2, 0}
    per_producer = div(items, crew)
    handle = adapter.start(Payload.capacity(:map))
    put_at = :atomics.new(crew * per_producer, signed: true)

    producers =
      for number <- 0..(crew - 1) do
        ids = Loops.ids(number, crew, per_producer)
        Crew.member(fn -> fn -> produce(&adapter.put/2, handle, ids, put_at, pace, now()) end end)
      end

    workers =
      for _ <- 1..crew do
        Crew.member(fn ->
          histogram = Histogram.new()
          tally = if crew == 1, do: Tally.ordered(1), else: Tally.unordered()
          fn -> work(adapter, handle, put_at, histogram, nil, tally) end
        end)
      end

    Crew.go(producers ++ workers)
    Crew.await_all(producers)
    Loops.stop_workers(adapter, handle, crew)
    {histograms, tallies} = workers |> Crew.await_all() |> Enum.unzip()

    what = "time in queue #{load}, #{adapter.name()}"
    total = Tally.total(tallies)
    WrongResult.check!("#{what}: {count, sum, xor, out of order}", Tally.expected(crew * per_producer), total)
    WrongResult.check_drained!(what, adapter, handle)
    adapter.stop(handle)

    all = Histogram.merge(histograms)
    Histogram.typical_us(all)
  end

  defp produce(_put, _handle, %{first: stop, stop: stop}, _put_at, _pace, _due), do: :ok

  defp produce(put, handle, %{first: id} = ids, put_at, pace, due) do
    payload = Payload.build(:map, id)
    spin_until(due)
    :atomics.put(put_at, id + 1, now())
    Adapter.put_retrying(put, handle, payload)
    produce(put, handle, %{ids | first: id + ids.step}, put_at, pace, due + pace)
  end

  defp spin_until(due), do: if(now() < due, do: spin_until(due))

  defp work(adapter, handle, put_at, histogram, last, tally) do
    {payload, lease} = adapter.take(handle, last)
    at = now()

    case Payload.id_of(payload) do
      :stop ->
        :ok = adapter.settle(handle, lease)
        {histogram, tally}

      id ->
        Histogram.record(histogram, at - :atomics.get(put_at, id + 1))
        work(adapter, handle, put_at, histogram, lease, Tally.add(tally, id))
    end
  end

  defp now, do: System.monotonic_time(:nanosecond)
end
