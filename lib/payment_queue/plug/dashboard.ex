defmodule PaymentQueue.Plug.Dashboard do
  @moduledoc """
  Serves `PaymentQueue.Dashboard` from a Plug pipeline. Needs Plug in your application.

      # in a Phoenix router, behind your own pipeline
      scope "/" do
        pipe_through [:browser, :admins_only]
        forward "/queues", PaymentQueue.Plug.Dashboard, path: "/", authorize: &MyAppWeb.Admin.operator?/1
      end

      # in a Plug.Router or Plug.Builder
      plug PaymentQueue.Plug.Dashboard, path: "/queues"

  Options, beside those of `PaymentQueue.Dashboard`:

    * `path:` (default `"/dashboard"`), relative to where the plug stands. What is not below it passes through untouched.
    * `authorize:` a function of the connection (`&Module.function/1`, or `{module, function}`) that says whether this user may
      pause, resume and scale queues and put dead letters back: `true`, or `{:ok, who}`, which names the user in the log.
      Anything else means looking only, as it does without this option.

  The plug has its own protection against forged requests, and brings the token that Phoenix's `:protect_from_forgery`
  (`Plug.CSRFProtection`) wants where that stands before it.

  > #### Behind your authentication {: .warning}
  >
  > The plug shows the page to everybody who reaches it: put it where only those come who may see your queues.

  Each open page is one connection, and one process that sleeps between two events. It ends when the browser is gone, at the
  latest with the first event that can't be sent, and when the server stops.
  """

  alias PaymentQueue.{Dashboard, Options}
  alias PaymentQueue.Plug.Path

  # A few short fields.
  @max_body 4_096

  @doc "Validates the options."
  @spec init(keyword()) :: map()
  def init(opts) do
    {own, opts} = Keyword.split(opts, [:path, :authorize])
    schema = [path: Path.option("/dashboard"), authorize: {{:custom, &__MODULE__.authorize_option/1}, nil}]
    opts |> Dashboard.options!() |> Map.merge(Options.own!(own, schema, inspect(__MODULE__)))
  end

  @doc "Answers, or passes through."
  @spec call(struct(), map()) :: struct()
  def call(conn, config) do
    case Path.below(conn.path_info, config.path) do
      nil -> conn
      path -> conn |> answer(path, config) |> Plug.Conn.halt()
    end
  end

  defp answer(conn, path, config) do
    {conn, params} = params(conn)
    who = who(config.authorize, conn)
    host_token = if path == [] and who != false, do: host_token(conn)

    request = %{
      method: conn.method,
      path: path,
      params: params,
      headers: Map.new(Dashboard.request_headers(), &{&1, conn |> Plug.Conn.get_req_header(&1) |> List.first()}),
      base: "/" <> Enum.join(conn.script_name ++ config.path, "/"),
      secure: conn.scheme == :https,
      host_token: host_token || ""
    }

    case Dashboard.respond(config, request, who) do
      {:ok, status, headers, body} ->
        conn = conn |> put_headers(headers) |> Plug.Conn.send_resp(status, body)
        # It is kept in this process, where the connection's next request, of another session perhaps, would find it.
        if host_token, do: Plug.CSRFProtection.delete_csrf_token()
        conn

      {:events, headers, stream} ->
        conn |> put_headers(headers) |> Plug.Conn.send_chunked(200) |> stream(stream, config)
    end
  end

  # A pipeline with Plug.CSRFProtection (Phoenix's `:browser`) lets no POST through without a token of its own. That plug needs
  # the session, so where none was fetched it does not stand.
  defp host_token(%{private: %{plug_session_fetch: :done}}), do: Plug.CSRFProtection.get_csrf_token()
  defp host_token(_conn), do: nil

  # The host may have parsed the body already, or not yet.
  defp params(%{method: "POST", body_params: %{__struct__: Plug.Conn.Unfetched}} = conn) do
    case Plug.Conn.read_body(conn, length: @max_body) do
      {:ok, body, conn} -> {conn, decode(body)}
      {_too_large, _, conn} -> {conn, %{}}
    end
  end

  defp params(%{method: "POST"} = conn), do: {conn, conn.body_params}
  defp params(conn), do: {conn, decode(conn.query_string)}

  defp decode(text) do
    URI.decode_query(text)
  rescue
    ArgumentError -> %{}
  end

  defp put_headers(conn, headers),
    do: Enum.reduce(headers, conn, fn {name, value}, conn -> Plug.Conn.put_resp_header(conn, name, value) end)

  defp stream(conn, stream, config) do
    {text, stream} = Dashboard.next_event(stream)

    case Plug.Conn.chunk(conn, text) do
      {:ok, conn} -> wait(conn, stream, config)
      {:error, _gone} -> conn
    end
  end

  defp wait(conn, stream, config) do
    receive do
      # The server stops. It will want to read this itself.
      {:EXIT, _, _} = exit ->
        send(self(), exit)
        conn
    after
      config.interval -> stream(conn, stream, config)
    end
  end

  defp who(nil, _conn), do: false

  defp who(authorize, conn) do
    answer =
      case authorize do
        {module, function} -> apply(module, function, [conn])
        function -> function.(conn)
      end

    case answer do
      true -> true
      {:ok, who} -> who || true
      _ -> false
    end
  end

  @doc false
  @spec authorize_option(term()) :: {:ok, term()} | {:error, String.t()}
  def authorize_option(nil), do: {:ok, nil}
  def authorize_option(function) when is_function(function, 1), do: {:ok, function}
  def authorize_option({module, name} = value) when is_atom(module) and is_atom(name), do: {:ok, value}
  def authorize_option(_other), do: {:error, "a function of the connection, or {module, function}"}
end
