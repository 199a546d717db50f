# With the real Bandit on the loopback, where it is on the code path (ERL_LIBS); test_helper.exs names it as skipped
# elsewhere. What only a real connection can show: events that arrive one by one, and the end of the stream.
if Code.ensure_loaded?(Bandit) do
  defmodule PaymentQueue.BanditTest do
    use PaymentQueue.QueueCase, async: true

    @moduletag :bandit

    setup_all do
      {:ok, _} = Application.ensure_all_started(:bandit)
      :ok
    end

    setup do
      queue = queue!()
      plug = {PaymentQueue.Plug.Dashboard, path: "/", queues: [queue], interval: 100, authorize: fn _ -> true end}
      server = start_supervised!({Bandit, plug: plug, port: 0, ip: :loopback, startup_log: false}, id: :server)
      {:ok, {_, port}} = ThousandIsland.listener_info(server)
      %{queue: queue, server: server, port: port}
    end

    defp connect(port, path) do
      {:ok, socket} = :gen_tcp.connect({127, 0, 0, 1}, port, [:binary, active: false])
      :ok = :gen_tcp.send(socket, "GET #{path} HTTP/1.1\r\nhost: localhost\r\n\r\n")
      socket
    end

    defp read_until(socket, pattern, seen \\ "") do
      if seen =~ pattern do
        seen
      else
        {:ok, data} = :gen_tcp.recv(socket, 0, 5_000)
        read_until(socket, pattern, seen <> data)
      end
    end

    test "events arrive as things happen, and each waits for the next", %{queue: queue, server: server, port: port} do
      socket = connect(port, "/events")
      head = read_until(socket, ~r/"queue_size":0.*\n\n/s)
      assert head =~ "HTTP/1.1 200 OK"
      assert head =~ "content-type: text/event-stream"
      assert head =~ "transfer-encoding: chunked"
      {:ok, 3} = PaymentQueue.enqueue_many([1, 2, 3], queue: queue)
      read_until(socket, ~r/"queue_size":3/)
      # Two events later the process behind it still sleeps in between.
      {:ok, [connection]} = ThousandIsland.connection_pids(server)
      eventually(fn -> Process.info(connection, :status) == {:status, :waiting} end)
      :gen_tcp.close(socket)
    end

    test "a stream ends when its client is gone", %{server: server, port: port} do
      socket = connect(port, "/events")
      read_until(socket, ~r/data: .*\n\n/s)
      {:ok, [connection]} = ThousandIsland.connection_pids(server)
      monitor = Process.monitor(connection)
      :gen_tcp.close(socket)
      assert_receive {:DOWN, ^monitor, :process, _, reason}
      assert reason in [:normal, :noproc] or match?({:shutdown, _}, reason), inspect(reason)
      eventually(fn -> ThousandIsland.connection_pids(server) == {:ok, []} end)
    end

    test "a stream ends when the server stops, well before its patience ends", %{server: server, port: port} do
      socket = connect(port, "/events")
      read_until(socket, ~r/data: .*\n\n/s)
      {:ok, [connection]} = ThousandIsland.connection_pids(server)
      monitor = Process.monitor(connection)
      :ok = stop_supervised(:server)
      assert_receive {:DOWN, ^monitor, :process, _, reason}
      refute reason == :killed
      assert {:error, :closed} = drain(socket)
    end

    defp drain(socket), do: with({:ok, _} <- :gen_tcp.recv(socket, 0, 5_000), do: drain(socket))

    test "the page, and what it loads, over a socket", %{port: port} do
      {:ok, socket} = :gen_tcp.connect({127, 0, 0, 1}, port, [:binary, active: false])
      :ok = :gen_tcp.send(socket, "GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
      page = read_until(socket, ~r/<\/html>/)
      assert page =~ "HTTP/1.1 200 OK"
      assert page =~ "content-security-policy: default-src 'none'"
      assert page =~ "set-cookie: payment_queue_csrf="
    end
  end
end
