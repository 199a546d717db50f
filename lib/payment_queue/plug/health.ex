defmodule PaymentQueue.Plug.Health do
  @moduledoc """
  Answers `GET /health` with the state of a queue. Needs Plug in your application.

      defmodule MyApp.Router do
        use Plug.Router

        plug PaymentQueue.Plug.Health, queue: :payments, max_queue_size: 9_000
        plug :match
        plug :dispatch
        ...
      end

  Put it before your logger and your authentication. The options are those of `PaymentQueue.Health`, which also says what the
  answers are, and `path:` (default `"/health"`), relative to where the plug stands. A `GET` or `HEAD` of that path is
  answered and the connection halted; everything else passes through untouched.
  """

  alias PaymentQueue.{Health, Options}
  alias PaymentQueue.Plug.Path

  @doc "Validates the options."
  @spec init(keyword()) :: map()
  def init(opts) do
    {own, opts} = Keyword.split(opts, [:path])
    opts |> Health.options!() |> Map.merge(Options.own!(own, [path: Path.option("/health")], inspect(__MODULE__)))
  end

  @doc "Answers, or passes through."
  @spec call(struct(), map()) :: struct()
  def call(%{method: method, path_info: path} = conn, %{path: path} = config) when method in ["GET", "HEAD"] do
    {status, headers, body} = Health.response(config)
    headers |> Enum.reduce(conn, &put_header/2) |> Plug.Conn.send_resp(status, body) |> Plug.Conn.halt()
  end

  def call(conn, _config), do: conn

  defp put_header({name, value}, conn), do: Plug.Conn.put_resp_header(conn, name, value)
end
