defmodule PaymentQueue.Bench.Features do
  @moduledoc """
  What the features of a queue cost: where the queue has them and the items don't ask for them, and where they do.

  One process enqueues, takes and settles the 2-field map, a batch of each kind in turn, so that all kinds meet the same
  state of the machine. What is told is the median of a kind's batches as a multiple of the plain queue's.

  An item with options goes through their validation, as every `PaymentQueue.enqueue/2` with more than `queue:` does; that is
  part of its cost, and `delay: 0`, which asks for nothing else, shows how large a part.
  """

  alias PaymentQueue.Bench.{Cell, Goal, NativeAdapter, Payload, Statistics, WrongResult}

  @batch 500
  # Never reached: only the looking after it is measured.
  @rate_limit {100_000, 1}

  # What the queue is started with, and what its nth item asks for.
  @kinds [
    {"plain", [], :nothing},
    {"priorities: 16, unused", [priorities: 16], :nothing},
    {"unique_for:, unused", [unique_for: 0], :nothing},
    {"rate_limit:, not reached", [rate_limit: @rate_limit], :nothing},
    {"options at all (delay: 0)", [], :delay},
    {"priority: 1", [priorities: 16], :priority},
    {"key:", [unique_for: 0], :key},
    {"partition:, each its own", [], :partition},
    {"partition:, 10 of them", [], :few_partitions}
  ]

  @doc "A cell whose samples are medians of so many batches."
  @spec cell(batches :: pos_integer()) :: Cell.t()
  def cell(batches) do
    [_plain | others] = @kinds

    %Cell{
      name: "features",
      table: :features,
      adapters: [NativeAdapter],
      rows:
        [Cell.row("plain: enqueue, take, settle", "ns", :lower, ratio: false)] ++
          for({name, _, asks} <- others, do: Cell.row(name, "× plain", :lower, ratio: false, goals: goals(name, asks))),
      prepare: fn NativeAdapter -> measure(2) end,
      measure: fn NativeAdapter, _warm_up -> measure(batches) end
    }
  end

  # Free, as far as a busy machine can tell.
  defp goals(name, :nothing), do: if(name =~ "unused", do: [Goal.at_most(1.05)], else: [])
  defp goals(_name, _asks), do: []

  defp measure(batches) do
    queues = for {{_, start, asks}, n} <- Enum.with_index(@kinds), do: {start(n, start), asks}
    samples = for batch <- 1..batches, {queue, asks} <- queues, do: {queue, batch(queue, asks, batch * @batch)}
    for {queue, _} <- queues, do: stop(queue)

    by_queue = Enum.group_by(samples, &elem(&1, 0), &elem(&1, 1))
    [plain | others] = for {queue, _} <- queues, do: Statistics.median(by_queue[queue])
    [plain | Enum.map(others, &(&1 / plain))]
  end

  defp start(n, options) do
    queue = :"bench_feature_#{n}"
    {:ok, _supervisor} = PaymentQueue.start_link([name: queue] ++ options)
    queue
  end

  defp stop(queue) do
    WrongResult.check_drained!("features, #{queue}", NativeAdapter, queue)
    NativeAdapter.stop(queue)
  end

  # ns for one item.
  defp batch(queue, asks, first) do
    last = first + @batch - 1
    started = System.monotonic_time()
    for id <- first..last, do: :ok = enqueue(asks, queue, Payload.build(:map, id), id)
    lease = for id <- first..last, reduce: nil, do: (lease -> take(queue, id, lease))
    :ok = PaymentQueue.ack(lease)
    System.convert_time_unit(System.monotonic_time() - started, :native, :nanosecond) / @batch
  end

  defp enqueue(:nothing, queue, payload, _id), do: PaymentQueue.enqueue(payload, queue: queue)
  defp enqueue(:delay, queue, payload, _id), do: PaymentQueue.enqueue(payload, queue: queue, delay: 0)
  defp enqueue(:priority, queue, payload, _id), do: PaymentQueue.enqueue(payload, queue: queue, priority: 1)
  defp enqueue(:key, queue, payload, id), do: PaymentQueue.enqueue(payload, queue: queue, key: id)
  defp enqueue(:partition, queue, payload, id), do: PaymentQueue.enqueue(payload, queue: queue, partition: id)

  defp enqueue(:few_partitions, queue, payload, id),
    do: PaymentQueue.enqueue(payload, queue: queue, partition: rem(id, 10))

  # One at a time, so the order is that of the ids, with partitions too.
  defp take(queue, id, lease) do
    {payload, lease} = NativeAdapter.take(queue, lease)
    WrongResult.check!("features, #{queue}: the next item", id, Payload.id_of(payload))
    lease
  end
end
