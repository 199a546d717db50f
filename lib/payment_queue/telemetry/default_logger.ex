defmodule PaymentQueue.Telemetry.DefaultLogger do
  @moduledoc false
  # The handler behind `PaymentQueue.Telemetry.attach_default_logger/1`: one line for each event, without payloads.

  require Logger

  alias PaymentQueue.{JSON, Reason}

  @durations [:duration, :queue_time]
  @hidden [:telemetry_span_context, :payload, :payloads, :kind, :reason, :stacktrace, :worker]

  @doc false
  @spec handle_event([atom()], map(), map(), %{level: Logger.level(), encode: boolean()}) :: :ok
  def handle_event([:payment_queue | event], measurements, metadata, %{level: level, encode: encode}) do
    Logger.log(
      level,
      fn ->
        line = line(event, measurements, metadata)
        if encode, do: line |> JSON.encode!() |> IO.iodata_to_binary(), else: line
      end,
      queue: metadata.queue
    )
  end

  @doc "What is logged of an event."
  @spec line([atom()], map(), map()) :: map()
  def line(event, measurements, metadata) do
    measurements
    |> Map.drop([:system_time, :monotonic_time])
    |> Map.merge(Map.drop(metadata, @hidden))
    |> Map.merge(why(metadata))
    |> Map.new(&readable/1)
    |> Map.merge(%{source: "payment_queue", event: Enum.map_join(event, ":", &to_string/1)})
  end

  # The banner alone: stack traces are in the line that the worker itself logs.
  defp why(%{kind: kind, reason: reason, stacktrace: [_ | _]} = metadata),
    do: %{error: Reason.describe({kind, reason, []}, secrets(metadata))}

  defp why(%{kind: _, reason: reason} = metadata), do: %{error: Reason.describe(reason, secrets(metadata))}
  defp why(%{reason: reason}) when is_atom(reason), do: %{reason: reason}
  defp why(%{reason: reason} = metadata), do: %{reason: Reason.describe(reason, secrets(metadata))}
  defp why(_metadata), do: %{}

  defp secrets(%{payload: payload}), do: [payload]
  defp secrets(%{payloads: payloads}), do: payloads
  defp secrets(_metadata), do: []

  defp readable({key, time}) when key in @durations, do: {key, System.convert_time_unit(time, :native, :microsecond)}
  defp readable({key, value}) when is_atom(value), do: {key, to_string(value)}
  defp readable(pair), do: pair
end
