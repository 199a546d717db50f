defmodule PaymentQueue.Telemetry do
  @moduledoc """
  The events that queues emit through [`:telemetry`](https://hexdocs.pm/telemetry), and a logger for them.

  PaymentQueue does not depend on `:telemetry`: it emits where the application has it, and costs nothing where it has not.
  Whether it is there is found out when a queue is started. An accepted `PaymentQueue.enqueue/2` emits nothing and does no
  extra work in either case.

      iex> defmodule Refusals do
      ...>   def handle([:payment_queue, :enqueue, :refused], %{count: 1}, %{queue: queue, reason: reason}, pid) do
      ...>     send(pid, {queue, reason})
      ...>   end
      ...> end
      iex> :telemetry.attach("refusals", [:payment_queue, :enqueue, :refused], &Refusals.handle/4, self())
      :ok
      iex> {:ok, _} = PaymentQueue.start_link(name: :docs_telemetry, capacity: 1)
      iex> PaymentQueue.enqueue(:first, queue: :docs_telemetry)
      :ok
      iex> PaymentQueue.enqueue(:second, queue: :docs_telemetry)
      {:error, :queue_full}
      iex> receive do: ({:docs_telemetry, reason} -> reason)
      :queue_full
      iex> :telemetry.detach("refusals")
      :ok

  Every event's metadata has the name of the `:queue`. Times are in the `:native` unit (`System.convert_time_unit/3`);
  all other measurements are counts, bytes, or milliseconds where the name ends in `_ms`.

  ## Items

  A span around each run of a handler, emitted by the worker that runs it.

  | event | when | measurements | metadata |
  |---|---|---|---|
  | `[:payment_queue, :item, :start]` | before the handler | `:system_time`, `:monotonic_time` | `:queue`, `:attempt`, `:telemetry_span_context` |
  | `[:payment_queue, :item, :stop]` | it succeeded, cancelled or snoozed, and that is settled | `:duration`, `:queue_time`, `:monotonic_time` | the same, `:state`, and `:reason` if cancelled |
  | `[:payment_queue, :item, :exception]` | it failed, and the retry or the dead letter is settled | `:duration`, `:queue_time`, `:monotonic_time` | the same, `:state`, `:kind`, `:reason`, `:stacktrace` |

    * `:attempt`: 1 for the first delivery
    * `:duration`: the handler alone
    * `:queue_time`: from acceptance until the handler is called; from the second attempt on that includes the attempts
      before and the waiting between them
    * `:state`: of a `:stop`, `:success`, `:cancelled` (a dead letter by `{:cancel, reason}`) or `:snoozed`; of an
      `:exception`, `:failure` (tried again) or `:discard` (the last attempt: a dead letter)
    * `:kind`, `:reason`, `:stacktrace`: what was raised, thrown or exited with; `:error`, the reason and `[]` for a
      returned `{:error, reason}`; `:error`, `:timeout` and `[]` for a handler that `handler_timeout:` killed
    * `:telemetry_span_context`: the same reference in all events of one run

  A span costs its worker more than the queue does, so a queue of millions of items per second may want
  `telemetry: [spans: false]` among the options of `PaymentQueue.start_link/1`: its workers then emit none.

  A worker that is killed from elsewhere ends no span: the run's `:start` is then followed by a `worker down` event. Nor does
  a run whose end NATS did not confirm: its item is delivered again.

  ## Batches

  With `batch: [size: n]` above 1 there is one span for each call of the handler and none for its items.

  | event | when | measurements | metadata |
  |---|---|---|---|
  | `[:payment_queue, :batch, :start]` | before the handler | `:size`, `:system_time`, `:monotonic_time` | `:queue`, `:telemetry_span_context` |
  | `[:payment_queue, :batch, :stop]` | all items are settled | `:size`, `:duration`, `:queue_time`, `:monotonic_time`, and the number of items by state: `:success`, `:failure`, `:discard`, `:cancelled`, `:snoozed` | the same |
  | `[:payment_queue, :batch, :exception]` | the same, when all items failed for one reason | as of `:stop` | the same, `:kind`, `:reason`, `:stacktrace` |

  `:queue_time` is that of the batch's first item.

  ## Queues

  | event | when | measurements | metadata |
  |---|---|---|---|
  | `[:payment_queue, :enqueue, :refused]` | `enqueue/2` or `enqueue_many/2` answers an error; once per call | `:count` (1) | `:queue`, `:reason`: as in the answer |
  | `[:payment_queue, :queue, :paused]` | `PaymentQueue.pause/1` | `:count` (1) | `:queue` |
  | `[:payment_queue, :queue, :resumed]` | `PaymentQueue.resume/1` | `:count` (1) | `:queue` |
  | `[:payment_queue, :queue, :drained]` | `PaymentQueue.drain/2` is over | `:duration`, `:left`: items still there | `:queue`, `:result`: `:ok` or `:timeout` |
  | `[:payment_queue, :queue, :scaled]` | `PaymentQueue.scale/2` | `:workers` | `:queue` |
  | `[:payment_queue, :queue, :purged]` | `PaymentQueue.purge/1` | `:count` | `:queue` |
  | `[:payment_queue, :queue, :requeued]` | `PaymentQueue.requeue_dead/2` | `:count` | `:queue` |
  | `[:payment_queue, :worker, :down]` | a worker died, and not on order | `:count` (1) | `:queue`, `:worker`: its pid, `:reason` |

  ## What happens in native code

  An item whose holder dies comes back, or becomes a dead letter, and an old dead letter is dropped for a new one, in
  native code: no Elixir process is at hand to say so. These events are read off the counters every `interval` ms by one
  process of the queue's tree. `:count` is how far the counter moved since the interval before, whatever the cause; an event
  with nothing to count is left out. What happens while no tree runs is not reported.

  | event | when | measurements | metadata |
  |---|---|---|---|
  | `[:payment_queue, :queue, :depth]` | each interval | now: `:queue_size`, `:in_flight`, `:scheduled`, `:dead`, `:held`, `:keys`, `:bytes`, `:memory`, `:capacity`, `:consumers`, `:parked`, `:oldest_ms`; since the queue was made: `:enqueued`, `:settled`, `:redelivered`, `:rejected_full`, `:dead_dropped`, `:purged`, `:duplicates` | `:queue`, `:state`: `:running`, `:paused` or `:closed` |
  | `[:payment_queue, :queue, :redelivered]` | items were given back: by a retry or a snooze (at once, though they wait), `nack/2`, or a holder's death | `:count` | `:queue` |
  | `[:payment_queue, :queue, :dead_letter]` | items became dead letters. Those that `requeue_dead/2` took away in the same interval are missing in the count | `:count` | `:queue` |
  | `[:payment_queue, :queue, :dropped]` | dead letters beyond `max_dead` were dropped: these payloads are lost | `:count` | `:queue` |

  The option `telemetry: [interval: ms]` of `PaymentQueue.start_link/1` sets the interval (default 10_000);
  `:infinity` starts no such process. `emit_depth/1` emits the first of these events at once, for
  [`telemetry_poller`](https://hexdocs.pm/telemetry_poller):

      {:telemetry_poller, measurements: [{PaymentQueue.Telemetry, :emit_depth, [:payments]}], period: 5_000}

  ## Payloads

  No payload is in an event, unless the queue was started with `telemetry: [payload: true]`: then item events have it as
  `:payload`, batch events as `:payloads`. Nor is it in a `:reason`: an exception keeps its module, its own short text and
  its numbers and atoms; maps, long lists and long binaries in it, and whatever equals the payload, are replaced by a
  description, which a `KeyError` that carries the payload as its term would otherwise leak. With `payload: true` the
  reason is left as it is.

  ## With Broadway

  Items that `PaymentQueue.Producer` hands to Broadway are handled by Broadway's processes, so the spans are Broadway's own
  (`[:broadway, :processor, :message, :start]` and so on). The events of queues are the same.
  """

  alias PaymentQueue.{JSON, Operations, Options}
  alias PaymentQueue.Telemetry.{DefaultLogger, Events}

  @logger "payment_queue-default-logger"

  @events [
    item: [:start, :stop, :exception],
    batch: [:start, :stop, :exception],
    enqueue: [:refused],
    worker: [:down],
    queue: [:paused, :resumed, :drained, :scaled, :purged, :requeued, :depth, :redelivered, :dead_letter, :dropped]
  ]

  @typedoc "The second element of an event's name."
  @type category :: :item | :batch | :enqueue | :queue | :worker

  @doc """
  The names of all events, or of those of some categories, for `:telemetry.attach_many/4`.

      iex> PaymentQueue.Telemetry.events([:enqueue, :worker])
      [[:payment_queue, :enqueue, :refused], [:payment_queue, :worker, :down]]
  """
  @spec events(:all | [category()]) :: [[atom(), ...]]
  def events(categories \\ :all) do
    for {category, names} <- @events, categories == :all or category in categories, name <- names do
      [:payment_queue, category, name]
    end
  end

  @doc """
  Emits `[:payment_queue, :queue, :depth]` for a queue now. Costs some microseconds on a dirty scheduler; a queue in NATS is asked
  for at its servers, for at most a second, and emits nothing if they do not answer.
  """
  @spec emit_depth(PaymentQueue.queue()) :: :ok
  def emit_depth(queue \\ :default) do
    # Servers that do not answer have no depth; a queue that was never started is a mistake.
    with {:error, :queue_unavailable} <- Events.depth(queue), do: Operations.call(queue, :state)
    :ok
  end

  @doc """
  Logs every event, in one line each, without payloads. Times are in microseconds.

    * `level:` of all lines (default `:info`)
    * `events:` which categories: `:all` (default) or a list of `:item`, `:batch`, `:enqueue`, `:worker`, `:queue`. A busy
      queue writes two lines for each item, and one for each refusal; `[:worker, :queue]` stays quiet under any load.
    * `encode:` `true` for JSON, by `JSON`, `:json`, Jason or jiffy, whichever there is; `false` (default) for a structured report

  `{:error, :already_exists}`: it is attached. Without `:telemetry`, before it is started, or without a JSON library for
  `encode: true`, it raises `ArgumentError`.

      iex> PaymentQueue.Telemetry.attach_default_logger(events: [:item, :qeue])
      ** (ArgumentError) invalid value for :events: [:item, :qeue]; allowed: :all or a list of :item, :batch, :enqueue, :worker, :queue
  """
  @spec attach_default_logger(keyword() | Logger.level()) :: :ok | {:error, :already_exists}
  def attach_default_logger(opts \\ [])
  def attach_default_logger(level) when is_atom(level), do: attach_default_logger(level: level)

  def attach_default_logger(opts) do
    %{level: level, events: events, encode: encode} = Options.call!(:attach_default_logger, opts)
    telemetry!()
    # It raises where there is none: now, and not at the first event.
    if encode, do: JSON.library!()
    config = %{level: level, encode: encode}
    apply(:telemetry, :attach_many, [@logger, events(events), &DefaultLogger.handle_event/4, config])
  end

  @doc "Undoes `attach_default_logger/1`."
  @spec detach_default_logger() :: :ok | {:error, :not_found}
  def detach_default_logger do
    telemetry!()
    apply(:telemetry, :detach, [@logger])
  end

  defp telemetry! do
    unless Code.ensure_loaded?(:telemetry) do
      raise ArgumentError,
            "the application :telemetry is not available. Add {:telemetry, \"~> 1.0\"} to your dependencies"
    end

    unless Events.running?() do
      raise ArgumentError,
            "the application :telemetry is not started. Call Application.ensure_all_started(:telemetry) before, and before " <>
              "the queues are started"
    end
  end
end
