defmodule PaymentsApi.Demo.OwnLoad do
  @moduledoc """
  A load generator of one process per connection, for machines without `wrk`.

  It takes more of the processor than `wrk` does, so the server gets less; but it reads every answer before it hangs up, so
  its count is exact.
  """

  alias PaymentsApi.{Cents, UUID}
  alias PaymentsApi.Demo.Load

  @size 256
  @answer_within 5_000

  @doc "Blocks until the end, or until the calling process gets `:stop`; then calls `done`."
  @spec run(:inet.port_number(), pos_integer(), pos_integer(), ({:ok, Load.report()} | {:error, String.t()} -> term())) ::
          term()
  def run(port, connections, seconds, done) do
    deadline = System.monotonic_time(:millisecond) + seconds * 1_000
    stopped = :atomics.new(1, [])
    clients = for _ <- 1..connections, do: Task.async(fn -> client(port, deadline, stopped) end)

    await_end(stopped, deadline)

    clients
    |> Task.await_many(2 * @answer_within)
    |> Enum.reduce(
      %{by: "own load", accepted: 0, refused: 0, broken: 0, cut: 0},
      &Map.merge(&2, &1, fn _, a, b -> a + b end)
    )
    |> then(&done.({:ok, &1}))
  end

  defp await_end(stopped, deadline) do
    receive do
      :stop -> :atomics.put(stopped, 1, 1)
    after
      max(deadline - System.monotonic_time(:millisecond), 0) -> :ok
    end
  end

  defp client(port, deadline, stopped) do
    counts = %{accepted: 0, refused: 0, broken: 0}

    case connect(port) do
      {:ok, socket} -> post(socket, counts, deadline, stopped)
      {:error, _reason} -> %{counts | broken: 1}
    end
  end

  defp connect(port),
    do: :gen_tcp.connect({127, 0, 0, 1}, port, [:binary, active: false, packet: :http_bin, nodelay: true])

  defp post(socket, counts, deadline, stopped) do
    if System.monotonic_time(:millisecond) >= deadline or :atomics.get(stopped, 1) == 1 do
      :gen_tcp.close(socket)
      counts
    else
      with :ok <- :gen_tcp.send(socket, request()),
           {:ok, status} <- receive_answer(socket) do
        post(
          socket,
          Map.update!(counts, if(status == 204, do: :accepted, else: :refused), &(&1 + 1)),
          deadline,
          stopped
        )
      else
        {:error, _reason} -> %{counts | broken: counts.broken + 1}
      end
    end
  end

  @doc false
  def request do
    amount = Cents.format(:rand.uniform(99_999))
    start = ~s({"correlationId":"#{UUID.format(UUID.random())}","amount":#{amount},"description":")
    body = String.pad_trailing(start, @size - 2, "x") <> ~s("})

    "POST /payments HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: #{@size}\r\n\r\n" <>
      body
  end

  # The socket parses the head; the body of a refusal is read and dropped.
  defp receive_answer(socket, status \\ nil, length \\ 0) do
    case :gen_tcp.recv(socket, 0, @answer_within) do
      {:ok, {:http_response, _version, status, _phrase}} -> receive_answer(socket, status, 0)
      {:ok, {:http_header, _, :"Content-Length", _, value}} -> receive_answer(socket, status, String.to_integer(value))
      {:ok, {:http_header, _, _, _, _}} -> receive_answer(socket, status, length)
      {:ok, :http_eoh} -> drop_body(socket, length, status)
      {:ok, {:http_error, text}} -> {:error, text}
      {:error, reason} -> {:error, reason}
    end
  end

  defp drop_body(_socket, 0, status), do: {:ok, status}

  defp drop_body(socket, length, status) do
    with :ok <- :inet.setopts(socket, packet: :raw),
         {:ok, _body} <- :gen_tcp.recv(socket, length, @answer_within),
         :ok <- :inet.setopts(socket, packet: :http_bin) do
      {:ok, status}
    end
  end
end
