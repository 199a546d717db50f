defmodule PlugApp.Router do
  @moduledoc """
  What the API answers, the same in all three forms of the app; the option `queue:` is the form's module.

  | request | answers |
  |---|---|
  | `POST /payments` with `id`, `customer`, `cents` | 204 accepted; 400; 503 with the reason |
  | `GET /health` | 200 depth and payments in flight, of both queues while there are two |
  | `/operator/...` | see `PlugApp.Operator` |
  """

  use Plug.Router, copy_opts_to_assign: :app

  plug :match
  plug Plug.Parsers, parsers: [:json], json_decoder: Jason
  plug :dispatch

  post "/payments" do
    with {:ok, payment} <- PlugApp.Payment.parse(conn.body_params),
         :ok <- conn.assigns.app[:queue].enqueue(payment) do
      send_resp(conn, 204, "")
    else
      {:error, :invalid_payment} -> json(conn, 400, %{error: :invalid_payment})
      {:error, reason} -> conn |> put_resp_header("retry-after", "1") |> json(503, %{error: reason})
    end
  end

  get "/health" do
    json(conn, 200, %{status: :ok, queue: conn.assigns.app[:queue].stats()})
  end

  match "/operator/*rest" do
    PlugApp.Operator.call(conn, rest, conn.assigns.app[:operator_token])
  end

  match _ do
    json(conn, 404, %{error: :not_found})
  end

  defp json(conn, status, body) do
    conn |> put_resp_content_type("application/json") |> send_resp(status, Jason.encode!(body))
  end
end
