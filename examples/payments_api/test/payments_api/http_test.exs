defmodule PaymentsApi.HttpTest do
  # Over a real loopback socket, so that what mochiweb does with a request is tested too.
  use ExUnit.Case, async: false

  alias PaymentsApi.{Books, Breaker, FaultyQueue, Http, Meter, UUID}

  defmodule BrokenQueue do
    @moduledoc false
    def stats, do: raise("broken")
  end

  setup context do
    start_supervised!(Books)
    Breaker.reset()
    start_supervised!({FaultyQueue, capacity: 10, concurrency: 1})
    start_supervised!({Http, queue: Map.get(context, :queue, FaultyQueue)})
    {:ok, socket} = connect()
    %{socket: socket}
  end

  test "answers many requests over one connection", %{socket: socket} do
    for _ <- 1..5 do
      assert {204, headers, ""} = post(socket, payment())
      refute Map.has_key?(headers, "content-length")
    end

    assert {200, %{"content-type" => "application/json"}, body} = request(socket, "GET /health HTTP/1.1\r\n\r\n")
    assert %{"status" => "ok"} = :jiffy.decode(body, [:return_maps])
    assert {400, _, _} = post(socket, "{")
    assert {404, _, _} = request(socket, "GET /nothing?a=b HTTP/1.1\r\n\r\n")
    assert {405, %{"allow" => "POST"}, _} = request(socket, "GET /payments HTTP/1.1\r\n\r\n")
    assert Meter.get(:started) == 9
  end

  test "reads a body in chunks", %{socket: socket} do
    {first, second} = String.split_at(payment(), 20)
    text = Enum.map_join([first, second, ""], &"#{Integer.to_string(byte_size(&1), 16)}\r\n#{&1}\r\n")
    assert {204, _, _} = request(socket, "POST /payments HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" <> text)
  end

  test "a body that is too large is refused, and the client sees it though it has sent it all", %{socket: socket} do
    assert {413, %{"connection" => "close"}, body} = post(socket, String.duplicate("x", 300_000))
    assert :jiffy.decode(body, [:return_maps])["error"] == "payload_too_large"
    assert :gen_tcp.recv(socket, 0, 2_000) == {:error, :closed}
    assert Http.await_answered(2_000)
    assert {Meter.get(:rejected), Meter.get(:started)} == {1, 1}
  end

  test "so is one that is too large in chunks", %{socket: socket} do
    chunk = String.duplicate("x", 10_000)
    chunks = String.duplicate("#{Integer.to_string(10_000, 16)}\r\n#{chunk}\r\n", 5) <> "0\r\n\r\n"
    assert {413, _, _} = request(socket, "POST /payments HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" <> chunks)
  end

  test "a Content-Length that is no length is a bad request" do
    for length <- ["abc", "-1", "5x"] do
      {:ok, socket} = connect()
      assert {400, _, _} = request(socket, "POST /payments HTTP/1.1\r\nContent-Length: #{length}\r\n\r\n")
    end
  end

  defmodule NativeQueue do
    @moduledoc false
    def name, do: :http_test
    def stats, do: PaymentQueue.stats(:http_test)
  end

  @tag queue: NativeQueue
  test "the dashboard's events come one by one, are not waited for, and end with the client", %{socket: socket} do
    start_supervised!({PaymentQueue, name: :http_test})
    :ok = :gen_tcp.send(socket, "GET /dashboard/events HTTP/1.1\r\n\r\n")
    assert receive_until(socket, ~r/"queue_size":0.*\n\n/s) =~ "text/event-stream"
    assert Http.await_answered(2_000)
    :ok = PaymentQueue.enqueue(1, queue: :http_test)
    receive_until(socket, ~r/"queue_size":1.*\n\n/s)
    server = Process.whereis(Http)
    active = fn -> :mochiweb_socket_server.get(server, :active_sockets) end
    assert active.() == 1
    :gen_tcp.close(socket)
    assert Enum.any?(1..500, fn _ -> active.() == 0 or (Process.sleep(10) && false) end)
  end

  @tag queue: BrokenQueue
  test "a bug is a 500, not a broken connection", %{socket: socket} do
    assert {500, _, _} = request(socket, "GET /health HTTP/1.1\r\n\r\n")
    assert {404, _, _} = request(socket, "GET / HTTP/1.1\r\n\r\n")
  end

  test "HEAD has no body", %{socket: socket} do
    :ok = :gen_tcp.send(socket, "HEAD /health HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert [head, ""] = socket |> receive_all("") |> String.split("\r\n\r\n")
    assert head =~ ~r/^HTTP\/1.1 200 /
  end

  test "measures how long a POST takes", %{socket: socket} do
    post(socket, payment())
    # The next answer comes from the same process, so the first is measured by then.
    request(socket, "GET /health HTTP/1.1\r\n\r\n")
    assert PaymentsApi.Histogram.count(Meter.latencies()) == 1
  end

  defp connect, do: :gen_tcp.connect({127, 0, 0, 1}, Http.port(), [:binary, active: false])
  defp payment, do: ~s({"correlationId":"#{UUID.format(UUID.random())}","amount":1.25})

  defp post(socket, body),
    do: request(socket, "POST /payments HTTP/1.1\r\nContent-Length: #{byte_size(body)}\r\n\r\n" <> body)

  defp request(socket, text) do
    :ok = :gen_tcp.send(socket, text)
    :ok = :inet.setopts(socket, packet: :http_bin)
    {:ok, {:http_response, _version, status, _phrase}} = :gen_tcp.recv(socket, 0, 5_000)
    headers = receive_headers(socket, %{})
    :ok = :inet.setopts(socket, packet: :raw)
    {status, headers, receive_body(socket, headers["content-length"])}
  end

  defp receive_headers(socket, headers) do
    case :gen_tcp.recv(socket, 0, 5_000) do
      {:ok, {:http_header, _, name, _, value}} ->
        receive_headers(socket, Map.put(headers, name |> to_string() |> String.downcase(), value))

      {:ok, :http_eoh} ->
        headers
    end
  end

  defp receive_body(_socket, length) when length in [nil, "0"], do: ""

  defp receive_body(socket, length) do
    {:ok, body} = :gen_tcp.recv(socket, String.to_integer(length), 5_000)
    body
  end

  defp receive_until(socket, pattern, text \\ "") do
    if text =~ pattern do
      text
    else
      {:ok, data} = :gen_tcp.recv(socket, 0, 5_000)
      receive_until(socket, pattern, text <> data)
    end
  end

  defp receive_all(socket, text) do
    case :gen_tcp.recv(socket, 0, 5_000) do
      {:ok, data} -> receive_all(socket, text <> data)
      {:error, :closed} -> text
    end
  end
end
