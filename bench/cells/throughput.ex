defmodule PaymentQueue.Bench.Throughput do
  @moduledoc """
  Items produced, taken and settled per second, by a number of producers and of workers.

  All processes wait for one start. A worker ends when it takes a `:stop`; as many of these as there are workers go into the
  queue after the last producer has ended, so that each is behind every item. The clock runs from the start to the last
  worker's end.
  """

  alias PaymentQueue.Bench.{Cell, Crew, Floors, Goal, Loops, Payload, Tally, WrongResult}

  @calibration_items 20_000
  @calibration_ms 50

  # What a queue without a bound may be given in one sample: items, and bytes of long payloads.
  @unbounded_items 1_000_000
  @unbounded_bytes 512 * 1024 * 1024

  @floor_items 1_000_000

  @type shape :: %{
          kind: Payload.kind(),
          producers: pos_integer(),
          workers: pos_integer(),
          batch: pos_integer(),
          take: :leased | :once
        }

  @doc "A cell whose every sample lasts about `seconds`."
  @spec cell(shape(), seconds :: number(), [Goal.t()]) :: Cell.t()
  def cell(shape, seconds, goals) do
    %Cell{
      name: name(shape),
      table: :throughput,
      rows: [Cell.row(name(shape), "M items/s", :higher, goals: goals)],
      prepare: &calibrate(&1, shape, seconds),
      measure: fn adapter, per_producer -> [rate(adapter, shape, per_producer) / 1.0e6] end,
      floor: %{
        name: "encode + decode + two NIF calls",
        measure: fn ->
          [Floors.rate(shape.kind, shape.producers, shape.workers, floor_items(shape.kind, seconds)) / 1.0e6]
        end
      }
    }
  end

  @spec name(shape()) :: String.t()
  def name(shape) do
    batch = if shape.batch > 1, do: " batch-#{shape.batch}", else: ""
    once = if shape.take == :once, do: " at-most-once", else: ""
    "#{Payload.title(shape.kind)} #{shape.producers}+#{shape.workers}#{batch}#{once}"
  end

  @doc "How many items a floor of about the same length takes."
  @spec floor_items(Payload.kind(), seconds :: number()) :: pos_integer()
  def floor_items(kind, seconds),
    do: max(ceil(@floor_items * min(seconds, 1) / max(1, Payload.bytes(kind) / 1_000)), 1_000)

  @doc "How many items each producer must make for a sample of `seconds`. Doubles as the warm-up."
  @spec calibrate(module(), shape(), seconds :: number()) :: pos_integer()
  def calibrate(adapter, shape, seconds) do
    first = min(@calibration_items, div(Payload.capacity(shape.kind), 2))
    most = div(most_items(adapter, shape), shape.producers)
    calibrate(adapter, shape, seconds, max(div(first, shape.producers), 1), max(most, 1))
  end

  defp calibrate(adapter, shape, seconds, per_producer, most) do
    elapsed = run(adapter, shape, per_producer)
    enough = min(@calibration_ms, seconds * 1_000)

    if elapsed < enough * System.convert_time_unit(1, :millisecond, :native) and per_producer < most do
      calibrate(adapter, shape, seconds, min(per_producer * 4, most), most)
    else
      wanted = per_producer * seconds * System.convert_time_unit(1, :second, :native) / elapsed
      wanted |> ceil() |> min(most)
    end
  end

  defp most_items(adapter, shape) do
    if adapter.bounded?(), do: 0x7FFFFFFF, else: min(@unbounded_items, div(@unbounded_bytes, Payload.bytes(shape.kind)))
  end

  @doc "Items per second; raises unless each arrived once, and in order where one worker sees them all."
  @spec rate(module(), shape(), per_producer :: pos_integer()) :: float()
  def rate(adapter, shape, per_producer) do
    elapsed = run(adapter, shape, per_producer)
    per_producer * shape.producers * System.convert_time_unit(1, :second, :native) / elapsed
  end

  defp run(adapter, shape, per_producer) do
    handle = adapter.start(Payload.capacity(shape.kind))
    producers = for number <- 0..(shape.producers - 1), do: producer(adapter, handle, shape, number, per_producer)
    workers = for _ <- 1..shape.workers, do: worker(adapter, handle, shape)

    started = Crew.go(producers ++ workers)
    Crew.await_all(producers)
    Loops.stop_workers(adapter, handle, shape.workers)
    tallies = Crew.await_all(workers)
    elapsed = System.monotonic_time() - started

    what = "#{name(shape)}, #{adapter.name()}"
    expected = Tally.expected(shape.producers * per_producer)
    WrongResult.check!("#{what}: {count, sum, xor, out of order}", expected, Tally.total(tallies))
    WrongResult.check_drained!(what, adapter, handle)
    adapter.stop(handle)
    elapsed
  end

  defp producer(adapter, handle, shape, number, per_producer) do
    Crew.member(fn ->
      ids = Loops.ids(number, shape.producers, per_producer)
      template = Payload.build(shape.kind, number)
      fn -> Loops.produce(adapter, handle, template, ids, shape.batch) end
    end)
  end

  defp worker(adapter, handle, shape) do
    Crew.member(fn ->
      tally = if shape.workers == 1, do: Tally.ordered(shape.producers), else: Tally.unordered()
      fn -> work(adapter, handle, shape, tally) end
    end)
  end

  defp work(adapter, handle, %{batch: 1} = shape, tally) do
    take = if shape.take == :once, do: &adapter.take_once/2, else: &adapter.take/2
    {tally, lease} = Loops.work(take, handle, tally)
    :ok = adapter.settle(handle, lease)
    tally
  end

  defp work(adapter, handle, shape, tally), do: Loops.work_in_batches(adapter, handle, shape.batch, tally)
end
