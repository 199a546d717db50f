defmodule PaymentQueue.Telemetry.Span do
  @moduledoc false
  # The span around one run of a handler: `start/3`, `handled/1` when the handler is back, and `finish/2` when what became
  # of the items is certain. A worker without telemetry has no settings for it and never comes here.

  alias PaymentQueue.{Handler, Lease, Native, Nats, Reason}
  alias PaymentQueue.Telemetry.Events
  alias PaymentQueue.Workers.Outcome

  @enforce_keys [:kind, :payload?, :payloads, :metadata, :started, :duration, :measured]
  defstruct @enforce_keys

  @typedoc "What is needed of a queue's options."
  @type settings :: %{queue: atom(), kind: :item | :batch, payload?: boolean()}

  @type t :: %__MODULE__{
          kind: :item | :batch,
          payload?: boolean(),
          payloads: [term()],
          metadata: map(),
          started: integer(),
          duration: non_neg_integer() | nil,
          measured: map()
        }

  @doc "Nil: the queue's workers shall not trace."
  @spec settings(map()) :: settings() | nil
  def settings(%{name: queue, batch: batch, telemetry: %{spans: spans?, payload: payload?}}) do
    if spans? and Events.enabled?(),
      do: %{queue: queue, kind: if(batch.size > 1, do: :batch, else: :item), payload?: payload?}
  end

  @doc "The handler is about to be called with these."
  @spec start(settings(), [term()], [Lease.t(), ...]) :: t()
  def start(settings, payloads, [oldest | _] = leases) do
    metadata = describe(settings, payloads, leases)
    measured = size(settings, leases, %{queue_time: queue_time(oldest)})
    started = System.monotonic_time()
    times = %{system_time: System.system_time(), monotonic_time: started}
    Events.execute([:payment_queue, settings.kind, :start], size(settings, leases, times), metadata)

    %__MODULE__{
      kind: settings.kind,
      payload?: settings.payload?,
      payloads: payloads,
      metadata: metadata,
      started: started,
      duration: nil,
      measured: measured
    }
  end

  defp describe(%{kind: :item} = settings, [payload], [lease]) do
    base = %{queue: settings.queue, attempt: Lease.attempt(lease), telemetry_span_context: make_ref()}
    if settings.payload?, do: Map.put(base, :payload, payload), else: base
  end

  defp describe(%{kind: :batch} = settings, payloads, _leases) do
    base = %{queue: settings.queue, telemetry_span_context: make_ref()}
    if settings.payload?, do: Map.put(base, :payloads, payloads), else: base
  end

  defp size(%{kind: :item}, _leases, measurements), do: measurements
  defp size(%{kind: :batch}, leases, measurements), do: Map.put(measurements, :size, length(leases))

  defp queue_time({:nats, _, _, _} = lease),
    do: lease |> Nats.waited() |> System.convert_time_unit(:millisecond, :native)

  defp queue_time(lease) do
    case Native.waited(lease) do
      ns when is_integer(ns) -> System.convert_time_unit(ns, :nanosecond, :native)
      {:error, :stale_lease} -> 0
    end
  end

  @doc "The handler is back: settling is not part of its duration."
  @spec handled(t()) :: t()
  def handled(span), do: %{span | duration: System.monotonic_time() - span.started}

  @doc "The span for a message to the watchdog, whose reason needs no payloads to be compared with."
  @spec detach(t() | nil) :: t() | nil
  def detach(nil), do: nil
  def detach(span), do: %{span | payloads: []}

  @doc "Ends the span: with what the handler said of each item, and what became of it."
  @spec finish(t(), [{Handler.outcome(), Outcome.done()}]) :: :ok
  def finish(%{duration: nil} = span, results), do: span |> handled() |> finish(results)

  def finish(%{kind: :item} = span, [{outcome, state}]),
    do: emit(%{span | metadata: Map.put(span.metadata, :state, state)}, outcome)

  def finish(%{kind: :batch} = span, results) do
    counts = Map.merge(none(), Enum.frequencies_by(results, fn {_, state} -> state end))
    span = %{span | measured: Map.merge(span.measured, counts)}

    case Enum.uniq_by(results, fn {outcome, _} -> outcome end) do
      [{{:retry, _} = outcome, _}] -> emit(span, outcome)
      _ -> emit(span, :ok)
    end
  end

  defp none, do: %{success: 0, failure: 0, discard: 0, cancelled: 0, snoozed: 0}

  defp emit(span, {:retry, reason}) do
    {kind, reason, stack} = failure(reason)
    emit(span, :exception, Map.merge(span.metadata, %{kind: kind, reason: shown(span, reason), stacktrace: stack}))
  end

  defp emit(span, {:reject, reason}), do: emit(span, :stop, Map.put(span.metadata, :reason, shown(span, reason)))
  defp emit(span, _outcome), do: emit(span, :stop, span.metadata)

  defp emit(span, event, metadata) do
    times = %{duration: span.duration, monotonic_time: span.started + span.duration}
    Events.execute([:payment_queue, span.kind, event], Map.merge(span.measured, times), metadata)
  end

  # What `PaymentQueue.Handler` makes of a raise, throw or exit; any other reason was returned.
  defp failure({kind, reason, stack}) when kind in [:error, :exit, :throw] and is_list(stack),
    do: {kind, reason, Reason.stack(stack)}

  defp failure(reason), do: {:error, reason, []}

  defp shown(%{payload?: true}, reason), do: reason
  defp shown(%{payloads: payloads}, reason), do: Reason.redact(reason, payloads)
end
