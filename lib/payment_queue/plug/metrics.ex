defmodule PaymentQueue.Plug.Metrics do
  @moduledoc """
  Answers `GET /metrics` with the metrics of the queues, for Prometheus. Needs Plug in your application.

      plug PaymentQueue.Plug.Metrics

  Options: `path:` (default `"/metrics"`), relative to where the plug stands, and `queues:` (default `:all`). The metrics are
  those of `PaymentQueue.Prometheus`. A `GET` or `HEAD` of the path is answered and the connection halted; everything
  else passes through untouched.

  An application that has a `/metrics` already appends `PaymentQueue.Prometheus.text/1` to its own text instead.
  """

  alias PaymentQueue.{Options, Prometheus}
  alias PaymentQueue.Plug.Path

  @doc "Validates the options."
  @spec init(keyword()) :: map()
  def init(opts) do
    {own, opts} = Keyword.split(opts, [:path])
    opts |> Prometheus.options!() |> Map.merge(Options.own!(own, [path: Path.option("/metrics")], inspect(__MODULE__)))
  end

  @doc "Answers, or passes through."
  @spec call(struct(), map()) :: struct()
  def call(%{method: method, path_info: path} = conn, %{path: path} = config) when method in ["GET", "HEAD"] do
    conn
    |> Plug.Conn.put_resp_header("content-type", Prometheus.content_type())
    |> Plug.Conn.send_resp(200, Prometheus.text(config))
    |> Plug.Conn.halt()
  end

  def call(conn, _config), do: conn
end
