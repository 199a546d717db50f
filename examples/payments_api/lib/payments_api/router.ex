defmodule PaymentsApi.Router do
  @moduledoc """
  What the API answers. It knows no HTTP server: a request is a map, an answer is `{status, headers, body}`.

  | request | answers |
  |---|---|
  | `POST /payments` | 204 accepted; 400, 413 with the reason; 503 `queue_full`, `queue_closed`, `queue_unavailable` |
  | `GET /payments-summary?from=&to=` | 200 count and amount per processor; 400 |
  | `GET /health` | 200 depth and payments in flight; 503 while draining |
  | `GET /metrics` | 200 for Prometheus |
  | `GET /dashboard` | 200 a page that shows the queue live and operates it |
  """

  alias PaymentsApi.{Meter, Payment, Status, Summary}

  @max_body 16_384

  @typedoc "`headers`: those that `PaymentQueue.Dashboard` looks at. `operator?`: whether it may operate the queue."
  @type request :: %{
          required(:method) => String.t(),
          required(:path) => String.t(),
          required(:query) => String.t(),
          required(:body) => binary() | :too_large,
          optional(:headers) => %{String.t() => String.t() | nil},
          optional(:operator?) => boolean()
        }
  @type headers :: [{String.t(), String.t()}]
  @type response ::
          {status :: pos_integer(), headers(), body :: iodata()}
          | {:events, headers(), PaymentQueue.Dashboard.stream(), interval_ms :: pos_integer()}

  @routes %{"/payments" => "POST", "/payments-summary" => "GET", "/health" => "GET", "/metrics" => "GET"}

  @doc "The largest request body in bytes; for a larger one the server passes `:too_large`."
  @spec max_body() :: pos_integer()
  def max_body, do: @max_body

  @doc "Answers a request; `queue` is the module with the behaviour `PaymentsApi.Queue`."
  @spec call(request(), module()) :: response()
  def call(%{method: "POST", path: "/payments", body: body}, queue), do: accept(body, queue)
  def call(%{method: "GET", path: "/payments-summary", query: query}, _queue), do: summary(query)
  def call(%{method: "GET", path: "/health"}, queue), do: Status.health(queue)
  def call(%{method: "GET", path: "/metrics"}, queue), do: Status.metrics(queue)
  def call(%{path: "/dashboard"} = request, queue), do: Status.dashboard(request, [], queue)

  def call(%{path: "/dashboard/" <> below} = request, queue),
    do: Status.dashboard(request, String.split(below, "/"), queue)

  def call(%{method: "HEAD"} = request, queue), do: call(%{request | method: "GET"}, queue)
  def call(%{path: path}, _queue) when is_map_key(@routes, path), do: method_not_allowed(@routes[path])

  def call(_request, _queue),
    do: problem(404, "not_found", "there are " <> Enum.join(["/dashboard" | Map.keys(@routes)], ", "))

  defp accept(:too_large, _queue) do
    Meter.add(:rejected)
    problem(413, "payload_too_large", "the body may have at most #{@max_body} bytes")
  end

  defp accept(body, queue) do
    with {:ok, payment} <- Payment.parse(body),
         :ok <- queue.enqueue(payment) do
      Meter.add(:accepted)
      Meter.add(:accepted_cents, payment.cents)
      {204, [], ""}
    else
      {:error, {error, reason}} ->
        Meter.add(:rejected)
        problem(400, error, reason)

      {:error, refusal} ->
        Meter.add(:refused)
        json({503, error: refusal}, [{"Retry-After", "1"}])
    end
  end

  defp summary(query) do
    with {:ok, period} <- Summary.period(query) do
      {200, content_type(), Summary.content(period)}
    else
      {:error, reason} -> problem(400, "invalid_date", reason)
    end
  end

  defp method_not_allowed(allowed) do
    allowed = if allowed == "GET", do: "GET, HEAD", else: allowed
    json({405, error: "method_not_allowed", reason: "allowed: #{allowed}"}, [{"Allow", allowed}])
  end

  defp problem(status, error, reason), do: json({status, error: error, reason: reason})

  # As a list, because the order of a map's keys is nobody's.
  defp json({status, fields}, headers \\ []), do: {status, content_type() ++ headers, :jiffy.encode({fields})}

  defp content_type, do: [{"Content-Type", "application/json"}]
end
