defmodule PaymentQueue.Bench.EnqueueOnly do
  @moduledoc """
  Items enqueued per second while nobody takes.

  The clock stops when the queue itself says that it has them all: a cast is not an enqueue until its process has read it.
  Afterwards one worker takes everything out and checks number and order.
  """

  alias PaymentQueue.Bench.{Cell, Crew, Floors, Loops, Payload, Tally, Throughput, WrongResult}

  # So many items take some ten milliseconds.
  @items 200_000
  @held_bytes 128 * 1024 * 1024

  @spec cell(Payload.kind(), producers :: pos_integer(), share :: float()) :: Cell.t()
  def cell(kind, producers, share) do
    items = items(kind, producers, share)

    %Cell{
      name: "enqueue #{Payload.title(kind)} #{producers}",
      table: :enqueue_only,
      rows: [
        Cell.row(
          "enqueue #{Payload.title(kind)}, #{producers} producer#{if producers > 1, do: "s"}",
          "M items/s",
          :higher
        )
      ],
      prepare: fn adapter -> measure(adapter, kind, producers, div(items, 4 * producers) + 1) end,
      measure: fn adapter, _warm_up -> measure(adapter, kind, producers, div(items, producers)) end,
      floor: %{
        name: "encode + NIF call",
        measure: fn -> [Floors.encode_rate(kind, producers, Throughput.floor_items(kind, share)) / 1.0e6] end
      }
    }
  end

  defp items(kind, producers, share) do
    max(ceil(share * min(@items, div(@held_bytes, Payload.bytes(kind)))), producers)
  end

  defp measure(adapter, kind, producers, per_producer) do
    count = producers * per_producer
    # All must fit, and what is too much must be seen rather than refused.
    handle = adapter.start(2 * count + 1)

    crew =
      for number <- 0..(producers - 1) do
        Crew.member(fn ->
          ids = Loops.ids(number, producers, per_producer)
          template = Payload.build(kind, number)
          fn -> Loops.produce(adapter, handle, template, ids, 1) end
        end)
      end

    started = Crew.go(crew)
    Crew.await_all(crew)
    %{queue_size: queued} = adapter.stats(handle)
    elapsed = System.monotonic_time() - started

    what = "enqueue #{Payload.title(kind)} #{producers}, #{adapter.name()}"
    WrongResult.check!("#{what}: items in the queue", count, queued)
    check_content!(what, adapter, handle, producers, count)
    adapter.stop(handle)
    [count * System.convert_time_unit(1, :second, :native) / elapsed / 1.0e6]
  end

  defp check_content!(what, adapter, handle, producers, count) do
    Loops.stop_workers(adapter, handle, 1)

    worker =
      Crew.member(fn ->
        fn ->
          {tally, lease} = Loops.work(&adapter.take/2, handle, Tally.ordered(producers))
          :ok = adapter.settle(handle, lease)
          tally
        end
      end)

    Crew.go([worker])
    total = Tally.total([Crew.await(worker)])
    WrongResult.check!("#{what}: {count, sum, xor, out of order}", Tally.expected(count), total)
    WrongResult.check_drained!(what, adapter, handle)
  end
end
