defmodule PaymentsApi.Http do
  @moduledoc """
  A thin adapter from mochiweb to `PaymentsApi.Router`: reads the request, writes the answer, measures the time between.

  It listens on 127.0.0.1 only.
  """

  require Logger

  alias PaymentQueue.Dashboard
  alias PaymentsApi.{Meter, Router}

  @server {"Server", "payments_api"}

  # What is read, at most, of a body that was refused: a client that is still sending would not see the answer otherwise.
  @linger_bytes 1_048_576
  @linger_ms 1_000
  @look_again_ms 5

  @type option :: {:queue, module()} | {:port, :inet.port_number()} | {:operators, boolean()}

  @spec child_spec([option()]) :: Supervisor.child_spec()
  def child_spec(opts), do: %{id: __MODULE__, start: {__MODULE__, :start_link, [opts]}}

  @doc """
  Port 0 is a free one: `port/0` tells which. `operators: false` makes the dashboard a page for looking only; by default
  whoever comes by the loopback address may operate the queue.
  """
  @spec start_link([option()]) :: GenServer.on_start()
  def start_link(opts) do
    queue = Keyword.fetch!(opts, :queue)
    operator? = Keyword.get(opts, :operators, true)

    :mochiweb_http.start_link(
      name: __MODULE__,
      ip: {127, 0, 0, 1},
      port: Keyword.get(opts, :port, 0),
      nodelay: true,
      backlog: 1_024,
      max: 4_096,
      loop: fn request -> serve(request, queue, operator?) end
    )
  end

  @spec port() :: :inet.port_number()
  def port, do: :mochiweb_socket_server.get(__MODULE__, :port)

  @doc """
  Waits until no request is being answered; `false` if that takes longer than `timeout` ms.

  A client that has hung up doesn't mean that its last request has reached the queue. A connection knows nobody to tell
  when it is done, so this looks again every few milliseconds.
  """
  @spec await_answered(non_neg_integer()) :: boolean()
  def await_answered(timeout) do
    cond do
      Meter.get(:started) == Meter.get(:finished) -> true
      timeout <= 0 -> false
      true -> Process.sleep(@look_again_ms) && await_answered(timeout - @look_again_ms)
    end
  end

  defp serve(request, queue, operator?) do
    began_at = System.monotonic_time()
    Meter.add(:started)

    answered =
      try do
        answer(request, queue, operator?)
      after
        # Here, and not after `answer`: when the client has hung up, mochiweb exits from within.
        Meter.add(:finished)
      end

    if :mochiweb_request.get(:method, request) == :POST, do: Meter.latency(microseconds_since(began_at))
    # A stream lasts as long as somebody looks: nobody waits for its end.
    with {:stream, response, stream, interval} <- answered, do: stream(response, stream, interval)
  end

  defp answer(request, queue, operator?) do
    case read(request) do
      {:ok, body} -> request |> describe(body, operator?) |> call(queue) |> respond(request)
      {:error, :too_large} -> refuse(request, request |> describe(:too_large, operator?) |> call(queue))
      {:error, :malformed} -> refuse(request, {400, [], ""})
    end
  end

  # A bug in the API must not look like a network fault to the client.
  defp call(request, queue) do
    Router.call(request, queue)
  rescue
    error ->
      Logger.error("#{request.method} #{request.path}: " <> Exception.format(:error, error, __STACKTRACE__))
      {500, [], ""}
  end

  # --- reading ----------------------------------------------------------------------------------------------------

  defp read(request) do
    case body_length(request) do
      :none -> {:ok, ""}
      :chunked -> receive_body(request)
      {:ok, length} when length in 0..unquote(Router.max_body()) -> receive_body(request)
      {:ok, length} when length > 0 -> {:error, :too_large}
      _other -> {:error, :malformed}
    end
  end

  # mochiweb crashes on a Content-Length that is no number, so it is looked at here first.
  defp body_length(request) do
    case {header("transfer-encoding", request), header("content-length", request)} do
      {:undefined, :undefined} -> :none
      {:undefined, text} -> with {length, ""} <- Integer.parse(List.to_string(text)), do: {:ok, length}
      {~c"chunked", :undefined} -> :chunked
      _other -> :malformed
    end
  end

  defp header(name, request), do: :mochiweb_request.get_header_value(String.to_charlist(name), request)

  defp receive_body(request) do
    case :mochiweb_request.recv_body(Router.max_body(), request) do
      :undefined -> {:ok, ""}
      body -> {:ok, body}
    end
  catch
    :exit, {:body_too_large, _} -> {:error, :too_large}
  end

  defp describe(request, body, operator?) do
    {path, query} = request |> then(&:mochiweb_request.get(:raw_path, &1)) |> List.to_string() |> split_path()

    %{
      method: to_string(:mochiweb_request.get(:method, request)),
      path: path,
      query: query,
      body: body,
      headers: Map.new(Dashboard.request_headers(), &{&1, &1 |> header(request) |> text()}),
      operator?: operator?
    }
  end

  defp text(:undefined), do: nil
  defp text(value), do: List.to_string(value)

  defp split_path(raw) do
    case :binary.split(raw, "?") do
      [path, query] -> {path, query}
      [path] -> {path, ""}
    end
  end

  # --- answering --------------------------------------------------------------------------------------------------

  # A 204 has no body and must not announce the length of one, which `respond` would do.
  defp respond({204, headers, _body}, request),
    do: :mochiweb_request.start_response({204, [@server | headers]}, request)

  defp respond({:events, headers, stream, interval}, request),
    do: {:stream, :mochiweb_request.respond({200, [@server | headers], :chunked}, request), stream, interval}

  defp respond({status, headers, body}, request) do
    :mochiweb_request.respond({status, [@server | headers], body}, request)
  end

  # Until the client is gone: then mochiweb exits from within the writing.
  @spec stream(tuple(), Dashboard.stream(), pos_integer()) :: no_return()
  defp stream(response, stream, interval) do
    {text, stream} = Dashboard.next_event(stream)
    :mochiweb_response.write_chunk(text, response)

    receive do
    after
      interval -> stream(response, stream, interval)
    end
  end

  # The body was not read, so the connection can't serve another request. Closing it with unread data would reset it and
  # the client might never see the answer: stop sending, read a little longer, then close.
  @spec refuse(tuple(), Router.response()) :: no_return()
  defp refuse(request, {status, headers, body}) do
    socket = :mochiweb_request.get(:socket, request)

    fields = [@server, {"Connection", "close"}, {"Content-Length", IO.iodata_length(body)} | headers]
    lines = for {name, value} <- fields, do: [name, ": ", to_string(value), "\r\n"]
    :gen_tcp.send(socket, ["HTTP/1.1 #{status} #{:httpd_util.reason_phrase(status)}\r\n", lines, "\r\n", body])

    :gen_tcp.shutdown(socket, :write)
    linger(socket, @linger_bytes)
    :gen_tcp.close(socket)
    exit({:shutdown, :request_refused})
  end

  defp linger(socket, bytes) when bytes > 0 do
    with {:ok, data} <- :gen_tcp.recv(socket, 0, @linger_ms), do: linger(socket, bytes - byte_size(data))
  end

  defp linger(_socket, _bytes), do: :ok

  defp microseconds_since(time), do: System.convert_time_unit(System.monotonic_time() - time, :native, :microsecond)
end
