defmodule PlugApp.Operator do
  @moduledoc """
  The operator's side of the migration, for those who have no remote console. Every request needs
  `authorization: Bearer <operator_token>`; an app without a token has no such endpoints.

  | request | |
  |---|---|
  | `PUT /operator/mode` with `{"mode": "legacy" \\| "shadow" \\| "native"}` or `{"mode": "percent", "percent": 5}` | moves the flag |
  | `GET /operator/report` | the table of both sides since the flag was moved; `?since=start` since the start |
  | `POST /operator/drain` | moves what waits in the old queue into the new one |
  """

  import Plug.Conn

  alias PaymentQueue.Migration

  @spec call(Plug.Conn.t(), [String.t()], String.t() | nil) :: Plug.Conn.t()
  def call(conn, _rest, nil), do: send_resp(conn, 404, "")

  def call(conn, rest, token) do
    with ["Bearer " <> given] <- get_req_header(conn, "authorization"),
         true <- Plug.Crypto.secure_compare(given, token) do
      run(conn.method, rest, conn)
    else
      _ -> conn |> put_resp_header("www-authenticate", "Bearer") |> send_resp(401, "")
    end
  end

  defp run("PUT", ["mode"], conn) do
    with {:ok, mode} <- mode(conn.body_params),
         :ok <- Migration.set_mode(mode) do
      text(conn, 200, "#{inspect(Migration.mode())}\n")
    else
      {:error, reason} -> text(conn, 409, "#{inspect(reason)}\n")
      :error -> text(conn, 400, "a mode is legacy, shadow, native, or percent with percent 0 to 100\n")
    end
  end

  defp run("GET", ["report"], conn) do
    since = if fetch_query_params(conn).query_params["since"] == "start", do: :start, else: :mode
    text(conn, 200, "#{Migration.report(since: since)}\n")
  end

  defp run("POST", ["drain"], conn) do
    case Migration.drain_legacy(timeout: 10_000) do
      {:ok, moved} -> text(conn, 200, "moved #{moved}\n")
      {:error, reason, moved} -> text(conn, 409, "moved #{moved}, then #{inspect(reason)}\n")
    end
  end

  defp run(_method, _path, conn), do: send_resp(conn, 404, "")

  # Never `String.to_atom/1` on what a request brings.
  defp mode(%{"mode" => "legacy"}), do: {:ok, :legacy}
  defp mode(%{"mode" => "shadow"}), do: {:ok, :shadow}
  defp mode(%{"mode" => "native"}), do: {:ok, :native}
  defp mode(%{"mode" => "percent", "percent" => p}) when is_integer(p) and p in 0..100, do: {:ok, {:percent, p}}
  defp mode(_), do: :error

  defp text(conn, status, body), do: conn |> put_resp_content_type("text/plain") |> send_resp(status, body)
end
