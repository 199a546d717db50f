defmodule PaymentQueue.Prometheus do
  @moduledoc """
  The counters, gauges and histograms of the queues in the text format of Prometheus (0.0.4).

  This is the content alone, for any server; `PaymentQueue.Plug.Metrics` serves it from a Plug pipeline. There is nothing
  to start and no registry: each scrape reads what the queues count anyway.

      iex> {:ok, _} = PaymentQueue.start_link(name: :docs_prometheus)
      iex> :ok = PaymentQueue.enqueue(1, queue: :docs_prometheus)
      iex> text = IO.iodata_to_binary(PaymentQueue.Prometheus.text(queues: [:docs_prometheus]))
      iex> text =~ ~s(payment_queue_depth{queue="docs_prometheus"} 1\\n)
      true

  Every sample carries the label `queue`, the name as text.

  | metric | type | |
  |---|---|---|
  | `payment_queue_enqueued_total` | counter | items accepted |
  | `payment_queue_settled_total` | counter | items done |
  | `payment_queue_redelivered_total` | counter | times that an item came back |
  | `payment_queue_rejected_full_total` | counter | items refused for want of room |
  | `payment_queue_dead_dropped_total` | counter | dead letters dropped for newer ones |
  | `payment_queue_duplicates_total` | counter | items refused because their key was taken |
  | `payment_queue_purged_total` | counter | items removed by `PaymentQueue.purge/1` |
  | `payment_queue_depth` | gauge | items ready to be taken |
  | `payment_queue_in_flight` | gauge | items taken and not settled |
  | `payment_queue_scheduled` | gauge | items that wait for their time: delays and backoffs |
  | `payment_queue_dead_letters` | gauge | dead letters kept |
  | `payment_queue_held` | gauge | items ready, and passed by because their partition is not free; part of the depth |
  | `payment_queue_keys` | gauge | keys that are taken |
  | `payment_queue_consumers` | gauge | processes that have taken items and live |
  | `payment_queue_parked_consumers` | gauge | those that wait for an item |
  | `payment_queue_oldest_age_seconds` | gauge | age of the oldest ready item; 0 without one |
  | `payment_queue_payload_bytes` | gauge | bytes of payload that wait |
  | `payment_queue_memory_bytes` | gauge | memory that the queue uses |
  | `payment_queue_capacity_items`, `payment_queue_capacity_bytes` | gauge | the bounds in force |
  | `payment_queue_state` | gauge | 1 for the present `state` (`running`, `paused`, `closed`), 0 for the others |
  | `payment_queue_storage_commits_total` | counter | of a durable queue: groups written to its disk |
  | `payment_queue_storage_up` | gauge | of a durable queue: 1, or 0 while its disk fails and nothing is accepted |
  | `payment_queue_storage_unwritten_steps` | gauge | of a durable queue: steps of items that are not yet written |
  | `payment_queue_storage_lag_seconds` | gauge | of a durable queue: for how long the oldest of them has waited |
  | `payment_queue_storage_bytes` | gauge | of a durable queue: bytes of its files |
  | `payment_queue_connected` | gauge | of a queue in NATS: whether its servers answer |
  | `payment_queue_wait_seconds` | histogram | from acceptance to the first delivery |
  | `payment_queue_handler_seconds` | histogram | from a delivery to the end of its lease, however it ended |

  A queue in NATS is asked for at its servers, for at most a second. It has no histograms, and no consumers, memory, keys and partitions to count; its
  counters are of this node, its depth, bytes and dead letters of all nodes. It alone has `payment_queue_connected`: 1, or 0
  while the servers do not answer, when only what this node knows by itself is there.

  The histograms' buckets end at powers of two of a microsecond, from 16 µs to 36 minutes, because the queue counts in
  buckets of which these are ends: their counts are exact. `_sum` adds up whole microseconds. Counters start again at zero
  with the VM, as Prometheus expects.

  A Grafana dashboard for these metrics is in `examples/grafana`.
  """

  alias PaymentQueue.{Histogram, Native, Nats, Options, Snapshot}

  @content_type "text/plain; version=0.0.4; charset=utf-8"

  @counters [
    enqueued: "Items accepted.",
    settled: "Items done.",
    redelivered: "Times that an item came back.",
    rejected_full: "Items refused for want of room.",
    dead_dropped: "Dead letters dropped for newer ones.",
    duplicates: "Items refused because their key was taken.",
    purged: "Items removed by a purge.",
    storage_commits: "Groups written to the disk of a durable queue."
  ]

  @gauges [
    {"depth", :queue_size, "Items ready to be taken."},
    {"in_flight", :in_flight, "Items taken and not settled."},
    {"scheduled", :scheduled, "Items that wait for their time: delays and backoffs."},
    {"dead_letters", :dead, "Dead letters kept."},
    {"held", :held, "Ready items that wait for their partition."},
    {"keys", :keys, "Keys that are taken."},
    {"consumers", :consumers, "Processes that have taken items and live."},
    {"parked_consumers", :parked, "Processes that wait for an item."},
    {"payload_bytes", :bytes, "Bytes of payload that wait."},
    {"memory_bytes", :memory, "Memory that the queue uses."},
    {"capacity_items", :capacity, "Most items that may wait."},
    {"capacity_bytes", :max_bytes, "Most bytes of payload that may wait."},
    {"storage_up", :storage_up, "Whether the disk of a durable queue takes what is written to it."},
    {"storage_unwritten_steps", :storage_unwritten, "Steps of items of a durable queue that are not yet written."},
    {"storage_lag_seconds", :storage_lag, "Time for which the oldest of these has waited."},
    {"storage_bytes", :storage_bytes, "Bytes of the files of a durable queue."},
    {"connected", :connected, "Whether the servers of a queue in NATS answer."}
  ]

  @histograms [
    {"wait_seconds", :waits, "Time from acceptance to the first delivery."},
    {"handler_seconds", :holds, "Time from a delivery to the end of its lease, however it ended."}
  ]

  @states [:running, :paused, :closed]

  @bounds_us for exponent <- 4..31, do: Bitwise.bsl(1, exponent)

  @schema [queues: {{:custom, &__MODULE__.queues_option/1}, :all}]

  @type option :: {:queues, :all | [PaymentQueue.queue()]}

  @doc "The value of the `content-type` header that belongs to `text/1`."
  @spec content_type() :: String.t()
  def content_type, do: @content_type

  @doc "Validates the options once; `text/1` takes what this returns as well as the plain list."
  @spec options!([option()]) :: map()
  def options!(opts), do: Options.own!(opts, @schema, "PaymentQueue.Prometheus")

  @doc """
  All metrics of all queues, or of `queues: [name]`. A queue that was never started has none.
  """
  @spec text([option()] | map()) :: iodata()
  def text(opts \\ [])

  def text(%{queues: queues}) do
    readings = for queue <- names(queues), reading <- read(queue), do: reading
    [counters(readings), gauges(readings), oldest(readings), states(readings), histograms(readings)]
  end

  def text(opts), do: opts |> options!() |> text()

  defp names(:all), do: Snapshot.sort(PaymentQueue.queues())
  defp names(queues), do: queues

  defp read(queue) do
    with %{} = info <- Native.info(queue), {waits, holds} <- Native.histograms(queue) do
      info = Map.merge(info, queue |> Native.storage() |> storage())
      [%{label: label(queue), info: info, waits: waits, holds: holds}]
    else
      {:error, :queue_unavailable} -> read_far(queue)
    end
  end

  defp storage(%{state: state} = storage) do
    %{
      storage_up: if(state == :ok, do: 1, else: 0),
      storage_unwritten: storage.unwritten,
      storage_lag: storage.lag_ms / 1_000,
      storage_bytes: storage.disk_bytes,
      storage_commits: storage.commits
    }
  end

  # Its items are in memory only.
  defp storage(_), do: %{}

  defp read_far(queue) do
    for %{connected: connected} = info <- [Nats.report(queue)],
        do: %{label: label(queue), info: %{info | connected: if(connected, do: 1, else: 0)}}
  end

  defp label(queue), do: [~s(queue="), queue |> Snapshot.label() |> escape(), ?"]

  defp counters(readings) do
    for {key, help} <- @counters, do: metric("#{key}_total", "counter", help, readings, &value(&1, key))
  end

  defp gauges(readings) do
    for {name, key, help} <- @gauges, do: metric(name, "gauge", help, readings, &value(&1, key))
  end

  # What is not known of a queue has no sample.
  defp value(reading, key), do: for({:ok, value} <- [Map.fetch(reading.info, key)], do: {"", [], value})

  defp oldest(readings) do
    help = "Age of the oldest item that is ready; 0 without one."
    seconds = &for {"", [], ms} <- value(&1, :oldest_ms), do: {"", [], ms / 1_000}
    metric("oldest_age_seconds", "gauge", help, readings, seconds)
  end

  defp states(readings) do
    metric("state", "gauge", "1 for the state that the queue is in.", readings, fn reading ->
      for state <- @states, do: {"", ~s(,state="#{state}"), if(state == reading.info.state, do: 1, else: 0)}
    end)
  end

  defp histograms(readings) do
    for {name, key, help} <- @histograms do
      metric(name, "histogram", help, readings, &if(&1[key], do: histogram(&1[key]), else: []))
    end
  end

  defp histogram({sum_us, _} = histogram) do
    count = Histogram.count(histogram)
    buckets = for {us, below} <- Histogram.cumulative(histogram, @bounds_us), do: {"_bucket", le(us), below}
    buckets ++ [{"_bucket", ~s(,le="+Inf"), count}, {"_sum", [], sum_us / 1_000_000}, {"_count", [], count}]
  end

  defp le(us), do: ~s(,le="#{:erlang.float_to_binary(us / 1_000_000, [:compact, decimals: 6])}")

  defp metric(name, type, help, readings, samples) do
    name = "payment_queue_" <> name

    [
      ["# HELP ", name, ?\s, help, "\n# TYPE ", name, ?\s, type, ?\n]
      | for reading <- readings, {suffix, labels, value} <- samples.(reading) do
          [name, suffix, ?{, reading.label, labels, "} ", to_string(value), ?\n]
        end
    ]
  end

  @doc false
  @spec queues_option(term()) :: {:ok, :all | [atom()]} | {:error, String.t()}
  def queues_option(:all), do: {:ok, :all}

  def queues_option(queues) do
    if is_list(queues) and queues != [] and Enum.all?(queues, &(is_atom(&1) and &1 not in [nil, true, false])),
      do: {:ok, queues},
      else: {:error, ":all or a list of the names of queues"}
  end

  defp escape(text),
    do: text |> String.replace("\\", "\\\\") |> String.replace("\"", "\\\"") |> String.replace("\n", "\\n")
end
