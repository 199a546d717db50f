defmodule PaymentQueue.Health do
  @moduledoc """
  Whether a queue takes work: the answer for a load balancer or an orchestrator, as a status code and JSON.

  This is the content alone, for any server; `PaymentQueue.Plug.Health` serves it from a Plug pipeline.

      iex> {:ok, _} = PaymentQueue.start_link(name: :docs_health)
      iex> {200, [{"content-type", "application/json"} | _], body} = PaymentQueue.Health.response(queue: :docs_health)
      iex> IO.iodata_to_binary(body)
      ~s({"status":"ok","queue":{"queue_size":0,"in_flight":0}})

  | option | default | |
  |---|---|---|
  | `queue:` | `:default` | the name of the queue |
  | `max_queue_size:` | none | more waiting items than this are unhealthy |
  | `max_oldest_ms:` | none | an oldest waiting item of more than this age is unhealthy |

  The status is 200 and the body `{"status":"ok","queue":{"queue_size":n,"in_flight":m}}`; or it is 503 and the body is
  `{"status":"error","reason":...,"queue":...}` with one of these reasons:

    * `queue_unavailable`: no queue of that name was ever started, or it is in NATS and the servers do not answer;
      `queue` is `null`
    * `queue_closed`: it is draining, or its tree was stopped
    * `storage`: the disk of a durable queue fails, so nothing is accepted; `info/1` says why
    * `queue_size`, `oldest_ms`: over the option's threshold

  A paused queue is healthy: it accepts, and somebody paused it. A full one is healthy too, unless `max_queue_size:` says
  otherwise: taking the node out of the rotation because it refuses some requests would have it refuse all.

  Costs a few atomic reads; with `max_oldest_ms:` as much as `PaymentQueue.info/1`. A queue in NATS is asked for at its servers,
  for at most a second.
  """

  alias PaymentQueue.{JSON, Native, Nats, Options}

  @read [:state, :queue_size, :in_flight, :oldest_ms]
  @most 134_217_727
  @schema [
    queue: {:name, :default},
    max_queue_size: {{:integer, 0, @most}, nil},
    max_oldest_ms: {{:integer, 0, 4_294_967_295}, nil}
  ]

  @type option ::
          {:queue, PaymentQueue.queue()}
          | {:max_queue_size, non_neg_integer()}
          | {:max_oldest_ms, non_neg_integer()}

  @typedoc "What is known about a queue; nil: nothing, it was never started. Without `:oldest_ms` its threshold is not applied."
  @type reading ::
          %{
            required(:state) => :running | :paused | :closed,
            required(:queue_size) => non_neg_integer(),
            required(:in_flight) => non_neg_integer(),
            optional(:oldest_ms) => non_neg_integer(),
            optional(:storage_failure) => atom()
          }
          | nil

  @type response :: {200 | 503, [{String.t(), String.t()}], iodata()}

  @doc "Validates the options once; `response/1` takes what this returns as well as the plain list."
  @spec options!([option()]) :: map()
  def options!(opts) do
    _ = JSON.library!()
    Options.own!(opts, @schema, "PaymentQueue.Health")
  end

  @doc "The answer about the queue as it is now: status, headers and body."
  @spec response([option()] | map()) :: response()
  def response(opts \\ [])
  def response(%{} = config), do: config |> read() |> response(config)
  def response(opts), do: opts |> options!() |> response()

  @doc "The same for a reading from elsewhere: of another queue than ours, for example."
  @spec response(reading(), [option()] | map()) :: response()
  def response(reading, %{} = config) do
    case reason(reading, config) do
      nil -> {200, headers(), JSON.encode!(status: "ok", queue: shown(reading))}
      reason -> {503, headers(), JSON.encode!(status: "error", reason: reason, queue: shown(reading))}
    end
  end

  def response(reading, opts), do: response(reading, options!(opts))

  defp read(%{queue: queue} = config) do
    case read_queue(config) do
      %{} = reading -> Map.put(reading, :storage_failure, Native.storage_failure(queue))
      nil -> read_far(queue)
    end
  end

  defp read_far(queue) do
    case Nats.look(queue) do
      %{} = info -> Map.take(info, @read)
      {:error, :queue_unavailable} -> nil
    end
  end

  defp read_queue(%{queue: queue, max_oldest_ms: nil}) do
    case Native.stats(queue) do
      %{} = stats -> Map.put(stats, :state, Native.state(queue))
      {:error, :queue_unavailable} -> nil
    end
  end

  defp read_queue(%{queue: queue}) do
    case Native.info(queue) do
      %{} = info -> Map.take(info, @read)
      {:error, :queue_unavailable} -> nil
    end
  end

  # The first that applies, the gravest first.
  defp reason(nil, _config), do: :queue_unavailable
  defp reason(%{state: :closed}, _config), do: :queue_closed
  defp reason(%{storage_failure: failure}, _config) when failure != nil, do: :storage

  defp reason(reading, config),
    do: Enum.find([:queue_size, :oldest_ms], &over?(reading[&1], config[:"max_#{&1}"]))

  defp over?(value, threshold), do: is_integer(value) and is_integer(threshold) and value > threshold

  defp shown(nil), do: nil
  defp shown(%{queue_size: size, in_flight: in_flight}), do: [queue_size: size, in_flight: in_flight]

  # An answer of a while ago is no answer.
  defp headers, do: [{"content-type", "application/json"}, {"cache-control", "no-store"}]
end
