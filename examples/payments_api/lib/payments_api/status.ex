defmodule PaymentsApi.Status do
  @moduledoc """
  `GET /health`, `/metrics` and `/dashboard`: the content is PaymentQueue's own, made by the modules that its plugs serve
  it from. The two replaced queues count too little for metrics and a dashboard; their health is shown in the same form.
  """

  alias PaymentQueue.{Dashboard, Health, Prometheus}

  @not_counted {404, [{"content-type", "text/plain"}], "this queue has no metrics and no dashboard\n"}

  @spec health(module()) :: PaymentsApi.Router.response()
  def health(queue) do
    case name(queue) do
      nil -> queue.stats() |> Map.take([:queue_size, :in_flight]) |> Map.put(:state, :running) |> Health.response([])
      name -> Health.response(queue: name)
    end
  end

  @spec metrics(module()) :: PaymentsApi.Router.response()
  def metrics(queue) do
    if name(queue),
      do: {200, [{"content-type", Prometheus.content_type()}], Prometheus.text()},
      else: @not_counted
  end

  @doc "`below`: the segments of the path after `/dashboard`."
  @spec dashboard(PaymentsApi.Router.request(), [String.t()], module()) :: PaymentsApi.Router.response()
  def dashboard(request, below, queue) do
    if name(queue) do
      config = Dashboard.options!(title: "Payments API")

      asked = %{
        method: request.method,
        path: below,
        params: params(request),
        headers: Map.get(request, :headers, %{}),
        base: "/dashboard",
        secure: false
      }

      case Dashboard.respond(config, asked, Map.get(request, :operator?, false)) do
        {:ok, status, headers, body} -> {status, headers, body}
        {:events, headers, stream} -> {:events, headers, stream, config.interval}
      end
    else
      @not_counted
    end
  end

  defp params(%{method: "POST", body: body}) when is_binary(body), do: decode(body)
  defp params(%{query: query}), do: decode(query)

  defp decode(text) do
    URI.decode_query(text)
  rescue
    ArgumentError -> %{}
  end

  # The name that PaymentQueue knows the queue by.
  defp name(queue), do: if(function_exported?(queue, :name, 0), do: queue.name())
end
