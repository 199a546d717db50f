defmodule PaymentQueue.Bench.Throughput do
  @moduledoc """
  Items produced, taken and settled per second, by a number of producers and of workers.

  All processes wait for one start. A worker ends when it takes a `:stop`; as many of these as there are workers go into the
  queue after the last producer has ended, so that each is behind every item. The clock runs from the start to the last
  worker's end.
  """

  alias PaymentQueue.Bench.{Adapter, Cell, Payload, Tally, WrongResult}

  # The default of `PaymentQueue.start_link/1`.
  @capacity 10_000
  @calibration_items 20_000
  @calibration_ms 50
  # Far beyond any honest run: who waits longer has lost an item or a wake-up.
  @stuck_ms 120_000

  @type shape :: %{
          kind: Payload.kind(),
          producers: 1..127,
          workers: pos_integer(),
          batch: pos_integer(),
          take: :leased | :once
        }

  @doc "A cell whose every sample lasts about `seconds`. `goal` is the least ratio native / ETS."
  @spec cell(shape(), seconds :: number(), goal :: number() | nil) :: Cell.t()
  def cell(shape, seconds, goal) do
    row = %{name: name(shape), unit: "M items/s"}

    %Cell{
      name: name(shape),
      rows: [if(goal, do: Map.put(row, :goal, {:ratio, :at_least, goal}), else: row)],
      prepare: &calibrate(&1, shape, seconds),
      measure: fn adapter, per_producer -> [rate(adapter, shape, per_producer) / 1.0e6] end
    }
  end

  defp name(shape) do
    batch = if shape.batch > 1, do: " batch-#{shape.batch}", else: ""
    once = if shape.take == :once, do: " at-most-once", else: ""
    "#{shape.kind} #{shape.producers}+#{shape.workers}#{batch}#{once}"
  end

  # Doubles as the warm-up.
  defp calibrate(adapter, shape, seconds, items \\ @calibration_items) do
    per_producer = div(items, shape.producers)
    elapsed = run(adapter, shape, per_producer)

    if elapsed < System.convert_time_unit(@calibration_ms, :millisecond, :native) do
      calibrate(adapter, shape, seconds, items * 4)
    else
      wanted = per_producer * seconds * System.convert_time_unit(1, :second, :native) / elapsed
      min(ceil(wanted), Payload.max_sequence())
    end
  end

  defp rate(adapter, shape, per_producer) do
    elapsed = run(adapter, shape, per_producer)
    per_producer * shape.producers * System.convert_time_unit(1, :second, :native) / elapsed
  end

  defp run(adapter, shape, per_producer) do
    handle = adapter.start(@capacity)

    producers = for number <- 0..(shape.producers - 1), do: start_producer(adapter, handle, shape, number, per_producer)
    workers = for _ <- 1..shape.workers, do: start_worker(adapter, handle, shape)

    started = System.monotonic_time()
    Enum.each(producers ++ workers, fn {pid, _monitor} -> send(pid, :start) end)
    Enum.each(producers, &await/1)
    Enum.each(workers, fn _ -> Adapter.put_retrying(&adapter.put/2, handle, :stop) end)
    tallies = Enum.map(workers, &await/1)
    elapsed = System.monotonic_time() - started

    what = "#{name(shape)}, #{adapter.name()}"

    Cell.check!(
      "#{what}: {count, sum, xor, out of order}",
      Tally.expected(shape.producers, per_producer),
      Tally.total(tallies)
    )

    Cell.check_drained!(what, adapter, handle)
    adapter.stop(handle)
    elapsed
  end

  defp start_producer(adapter, handle, shape, number, per_producer) do
    spawn_monitor(fn ->
      template = Payload.template(shape.kind, number)
      await_start()

      if shape.batch == 1,
        do: produce(&adapter.put/2, handle, template, Payload.id(number, 0), Payload.id(number, per_producer)),
        else:
          produce_batches(
            adapter,
            handle,
            template,
            shape.batch,
            Payload.id(number, 0),
            Payload.id(number, per_producer)
          )

      exit({:shutdown, :done})
    end)
  end

  defp start_worker(adapter, handle, shape) do
    spawn_monitor(fn ->
      tally = if shape.workers == 1, do: Tally.ordered(shape.producers), else: Tally.unordered()
      await_start()
      exit({:shutdown, work(adapter, handle, shape, tally)})
    end)
  end

  defp await_start do
    receive do
      :start -> :ok
    end
  end

  defp await({pid, monitor}) do
    receive do
      {:DOWN, ^monitor, :process, ^pid, {:shutdown, result}} ->
        result

      {:DOWN, ^monitor, :process, ^pid, reason} ->
        raise WrongResult, "a process ended with #{inspect(reason)}"
    after
      @stuck_ms ->
        raise WrongResult,
              "a process is stuck in #{inspect(Process.info(pid, :current_stacktrace))}"
    end
  end

  defp produce(_put, _handle, _template, last, last), do: :ok

  defp produce(put, handle, template, id, last) do
    Adapter.put_retrying(put, handle, Payload.with_id(template, id))
    produce(put, handle, template, id + 1, last)
  end

  defp produce_batches(_adapter, _handle, _template, _batch, last, last), do: :ok

  defp produce_batches(adapter, handle, template, batch, id, last) do
    next = min(id + batch, last)
    Adapter.put_many_retrying(adapter, handle, for(n <- id..(next - 1), do: Payload.with_id(template, n)))
    produce_batches(adapter, handle, template, batch, next, last)
  end

  defp work(adapter, handle, %{batch: 1} = shape, tally) do
    take = if shape.take == :once, do: &adapter.take_once/2, else: &adapter.take/2
    {lease, tally} = work_singly(take, handle, nil, tally)
    :ok = adapter.settle(handle, lease)
    tally
  end

  defp work(adapter, handle, shape, tally), do: work_in_batches(adapter, handle, shape.batch, [], tally)

  defp work_singly(take, handle, last, tally) do
    {payload, lease} = take.(handle, last)

    case Payload.id_of(payload) do
      :stop -> {lease, tally}
      id -> work_singly(take, handle, lease, Tally.add(tally, id))
    end
  end

  defp work_in_batches(adapter, handle, batch, last, tally) do
    {payloads, leases} = adapter.take_many(handle, batch, last)
    {tally, stops} = tally_batch(payloads, tally, 0)

    if stops == 0 do
      work_in_batches(adapter, handle, batch, leases, tally)
    else
      Enum.each(leases, fn lease -> :ok = adapter.settle(handle, lease) end)
      # A batch may hold the other workers' stops too.
      for _ <- 2..stops//1, do: Adapter.put_retrying(&adapter.put/2, handle, :stop)
      tally
    end
  end

  defp tally_batch([], tally, stops), do: {tally, stops}

  defp tally_batch([payload | rest], tally, stops) do
    case Payload.id_of(payload) do
      :stop -> tally_batch(rest, tally, stops + 1)
      id -> tally_batch(rest, Tally.add(tally, id), stops)
    end
  end
end
