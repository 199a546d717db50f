defmodule PaymentQueue.NatsServer do
  @moduledoc false
  # Real servers for tests, benches and the soak, on free loopback ports. Each ends with the process that started it: a shell waits for the end of its
  # input, which is the port's.

  @doc "The program, or nil where there is none that a queue is opened on. The environment variable NATS_SERVER names it."
  def program do
    programs = [System.get_env("NATS_SERVER"), System.find_executable("nats-server"), "/usr/sbin/nats-server"]
    Enum.find(programs, &(&1 != nil and File.exists?(&1) and Version.match?(version(&1), ">= 2.10.27")))
  end

  defp version(program) do
    {text, 0} = System.cmd(program, ["--version"])
    [version] = Regex.run(~r/\d+\.\d+\.\d+/, text)
    version
  end

  @doc "A server on its own. Returns `%{address: \"127.0.0.1:port\", ...}`."
  def start(args \\ []) do
    %{directory: directory(), port: free_port(), args: args} |> start_again() |> await()
  end

  @doc "Three servers that form a cluster, each with the others as routes."
  def cluster do
    routes = for _ <- 1..3, do: free_port()
    urls = Enum.map_join(routes, ",", &"nats://127.0.0.1:#{&1}")

    servers =
      for {route, n} <- Enum.with_index(routes, 1) do
        args = ~w(--cluster_name pq --cluster nats://127.0.0.1:#{route} --routes #{urls} --server_name n#{n})
        monitor = free_port()
        %{directory: directory(), port: free_port(), monitor: monitor, args: ["-m", "#{monitor}" | args]}
      end

    servers |> Enum.map(&start_again/1) |> Enum.map(&await/1)
  end

  @doc """
  What each server of a cluster has of a stream, as `{messages, first_sequence, last_sequence}`; nil for one that does not
  say. It is each server's own copy, not what the leader says of it.
  """
  def copies(servers, stream), do: Enum.map(servers, &copy(&1, stream))

  defp copy(server, stream) do
    with {:ok, socket} <- :gen_tcp.connect(~c"127.0.0.1", server.monitor, [:binary, active: false], 1_000),
         :ok <- :gen_tcp.send(socket, "GET /jsz?streams=true HTTP/1.0\r\n\r\n"),
         text = received(socket, []),
         [_ | numbers] <- Regex.run(state(stream), text) do
      numbers |> Enum.map(&String.to_integer/1) |> List.to_tuple()
    else
      _ -> nil
    end
  end

  defp state(stream),
    do: ~r/"name":\s*"#{stream}",.*?"state":\s*\{\s*"messages":\s*(\d+).*?"first_seq":\s*(\d+).*?"last_seq":\s*(\d+)/s

  defp received(socket, parts) do
    case :gen_tcp.recv(socket, 0, 2_000) do
      {:ok, part} -> received(socket, [parts, part])
      {:error, _} -> :gen_tcp.close(socket) && IO.iodata_to_binary(parts)
    end
  end

  @doc "Starts a stopped server on its old port and directory, without waiting for it."
  def start_again(server) do
    args = ["-a", "127.0.0.1", "-p", "#{server.port}", "-js", "-sd", server.directory | server.args]
    script = ~S("$@" >"$LOG" 2>&1 & pid=$!; echo $pid; read -r _; kill -9 $pid 2>/dev/null)

    port =
      Port.open({:spawn_executable, System.find_executable("sh")}, [
        :binary,
        line: 100,
        args: ["-c", script, "sh", program() | args],
        env: [{~c"LOG", String.to_charlist(Path.join(server.directory, "log"))}]
      ])

    pid = receive do: ({^port, {:data, {:eol, pid}}} -> pid)
    Map.merge(server, %{shell: port, pid: pid, address: "127.0.0.1:#{server.port}"})
  end

  @doc "Waits until it accepts connections."
  def await(server, tries \\ 600) do
    case :gen_tcp.connect(~c"127.0.0.1", server.port, []) do
      {:ok, socket} ->
        :gen_tcp.close(socket)
        server

      {:error, _} when tries > 0 ->
        receive(do: ({:never, _} -> :ok), after: (50 -> :ok))
        await(server, tries - 1)

      {:error, reason} ->
        raise "#{server.address} does not accept connections: #{inspect(reason)}; its log:\n" <>
                File.read!(Path.join(server.directory, "log"))
    end
  end

  @doc "kill -9."
  def kill(server), do: signal(server, "KILL")

  @doc "Sends it a signal: STOP makes it silent, CONT ends that."
  def signal(server, name) do
    {_, 0} = System.cmd("kill", ["-" <> name, server.pid])
    server
  end

  defp directory do
    path = Path.join(System.tmp_dir!(), "pq_nats_#{System.pid()}_#{System.unique_integer([:positive])}")
    File.mkdir_p!(path)
    path
  end

  # Below the ports that an operating system gives to outgoing connections: one of those could take it before the server
  # does, or while the server is down.
  defp free_port do
    port = Enum.random(20_000..30_000)

    case :gen_tcp.listen(port, ip: {127, 0, 0, 1}) do
      {:ok, socket} -> :gen_tcp.close(socket) && port
      {:error, _} -> free_port()
    end
  end
end
