defmodule PaymentQueue.Telemetry.Events do
  @moduledoc false
  # Emits the events that are no spans, if `:telemetry` is there. Whether it is, is found out when a queue's tree starts:
  # by then the applications of the host are loaded, and nobody has to ask again for every item.

  alias PaymentQueue.{Native, Operations}

  @enabled {PaymentQueue, :telemetry}

  @doc "Finds out whether `:telemetry` can be called. Setting an atom that is set already costs nothing."
  @spec detect() :: :ok
  def detect, do: :persistent_term.put(@enabled, Code.ensure_loaded?(:telemetry) and running?())

  # Called before its application runs, `:telemetry` would log a warning each time.
  @doc "Whether the application `:telemetry` has been started."
  @spec running?() :: boolean()
  def running?, do: List.keymember?(Application.started_applications(), :telemetry, 0)

  @doc "Whether `:telemetry` was there when the last queue was started."
  @spec enabled?() :: boolean()
  def enabled?, do: :persistent_term.get(@enabled, false)

  # By `apply/3`, which the compiler makes a plain call: named as usual, a module of an application that is no dependency
  # gives warnings wherever it is there.
  @doc "Emits `[:payment_queue | event]`."
  @spec emit([atom()], map(), map()) :: :ok
  def emit(event, measurements, metadata) do
    if enabled?(), do: execute([:payment_queue | event], measurements, metadata), else: :ok
  end

  @doc "Emits the event for one who knows that `:telemetry` is there."
  @spec execute([atom(), ...], map(), map()) :: :ok
  def execute(event, measurements, metadata), do: apply(:telemetry, :execute, [event, measurements, metadata])

  @doc "Says that a queue refused, and returns its answer."
  @spec refused(answer, atom()) :: answer when answer: {:error, atom()} | {:error, atom(), non_neg_integer()}
  def refused(answer, queue) do
    emit([:enqueue, :refused], %{count: 1}, %{queue: queue, reason: elem(answer, 1)})
    answer
  end

  @gauges [
    :queue_size,
    :in_flight,
    :scheduled,
    :dead,
    :held,
    :keys,
    :bytes,
    :memory,
    :capacity,
    :consumers,
    :parked,
    :oldest_ms
  ]
  @totals [:enqueued, :settled, :redelivered, :rejected_full, :dead_dropped, :purged, :duplicates]

  @doc "Emits the state of a queue, and returns the `info/1` that it came from: in NATS an error where no server answers."
  @spec depth(atom()) :: map() | Native.unavailable()
  def depth(queue) do
    with %{} = info <- Operations.look(queue) do
      emit([:queue, :depth], Map.take(info, @gauges ++ @totals), %{queue: queue, state: info.state})
      info
    end
  end
end
