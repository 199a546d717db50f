defmodule PaymentQueue.TopTest do
  use PaymentQueue.QueueCase, async: true

  import ExUnit.CaptureIO

  alias PaymentQueue.Top

  defp show(opts), do: capture_io(fn -> assert Top.run([interval: 100, ansi: false] ++ opts) == :ok end)

  defp row(text, queue),
    do: text |> String.split("\n") |> Enum.find(&String.starts_with?(&1, "#{queue} ")) |> String.split()

  test "a line for each queue" do
    queue = queue!(capacity: 10, handler: asking(self()), concurrency: 1)
    {:ok, 3} = PaymentQueue.enqueue_many([1, 2, 3], queue: queue)
    assert_receive {:handling, worker, 1}
    row = count_one(queue)
    assert [_, "running", "2", "1", "20%", "0", "0", "0", "–", "–", "–", "1", "0"] = row
    :ok = PaymentQueue.pause(queue)
    assert [_, "paused" | _] = count_one(queue)
    send(worker, {:return, :ok})
  end

  defp count_one(queue), do: [count: 1] |> show() |> row(queue)

  test "one queue in full, with its dead letters and without payloads" do
    queue = queue!()
    :ok = PaymentQueue.enqueue("card 4711", queue: queue)
    {:ok, _, lease} = PaymentQueue.take(queue: queue)
    :ok = PaymentQueue.reject(lease, {:declined, "card 4711"})
    text = show(count: 1, queue: to_string(queue))
    assert text =~ "attempts 1  {:declined, (the payload)}"
    assert text =~ "1 kept, 0 dropped"
    refute text =~ "4711"
    assert show(count: 1, queue: queue) =~ "1 kept, 0 dropped"
  end

  test "says so when there is no such queue" do
    assert show(count: 1, queue: "never_started") =~ "No queue is called never_started there.\n"
    refute show(count: 1) =~ "No queue is called"
  end

  test "a name stays on its line, and gives the terminal no orders" do
    queue!(name: :"#{new_name()}\n\e[2J odd")
    text = show(count: 1)
    assert text =~ "??[2J odd"
    refute text =~ "\e"
  end

  test "rates and percentiles are of the time between two looks" do
    queue = queue!()
    before = Top.collect(nil)

    for n <- 1..50 do
      :ok = PaymentQueue.enqueue(n, queue: queue)
      {:ok, ^n, lease} = PaymentQueue.take(queue: queue)
      :ok = PaymentQueue.ack(lease)
    end

    later = Top.collect(to_string(queue))
    text = later |> Top.Text.render(before) |> Enum.map_join("\n", &IO.iodata_to_binary/1)
    refute row(text, queue) |> Enum.at(6) == "0"
    assert text =~ ~r/wait      median \d+ \S+, 90%/
    quiet = Top.collect(to_string(queue)) |> Top.Text.render(later) |> Enum.map_join("\n", &IO.iodata_to_binary/1)
    assert [_, "running", "0", "0", "0%", "0", "0", "0", "–", "–", "–", "–", "0"] = row(quiet, queue)
  end

  test "draws over the last look where the terminal can, and has no escapes where it can't" do
    queue!()
    refute show(count: 2) =~ "\e"
    live = capture_io(fn -> Top.run(interval: 100, ansi: true, count: 2) end)
    assert length(String.split(live, "\e[H")) == 3
    assert live =~ "\e[K\n"
  end

  test "says what is wrong with an option" do
    assert_raise ArgumentError, ~r/invalid value for :interval: 1;/, fn -> Top.run(interval: 1) end

    assert_raise ArgumentError, ~r/invalid value for :queue: 7; allowed: the name of a queue/, fn ->
      Top.run(queue: 7)
    end
  end

  describe "mix payment_queue.top" do
    # Over real distribution between two further VMs, on the loopback and without epmd, which would stay.
    setup do
      {:ok, socket} = :gen_tcp.listen(0, ip: {127, 0, 0, 1})
      {:ok, port} = :inet.port(socket)
      :gen_tcp.close(socket)
      flags = "-start_epmd false -erl_epmd_port #{port} -kernel inet_dist_use_interface {127,0,0,1}"
      # No epmd is asked, not even one that is there: nothing listens on port 1.
      env = [{"ELIXIR_ERL_OPTIONS", flags}, {"ERL_EPMD_PORT", "1"}, {"MIX_ENV", "test"}]
      %{env: env, node: "payment_queue_top_test_#{port}@127.0.0.1"}
    end

    defp start_node(node, env) do
      args = ~w(--name #{node} --cookie here -S mix run --no-compile test/support/top_node.exs)
      env = for {name, value} <- env, do: {to_charlist(name), to_charlist(value)}
      elixir = {:spawn_executable, System.find_executable("elixir")}
      port = Port.open(elixir, [:binary, :stderr_to_stdout, line: 200, args: args, env: env])
      assert_receive {^port, {:data, {:eol, "ready"}}}, 60_000
      port
    end

    defp top(args, env), do: System.cmd("mix", ["payment_queue.top" | args], env: env, stderr_to_stdout: true)

    test "shows a running node", %{node: node, env: env} do
      port = start_node(node, env)
      assert {text, 0} = top(~w(--node #{node} --cookie here --once --queue refunds), env)
      assert text =~ "PaymentQueue on #{node}"
      assert ["payments", "running", "10", "0", "25%" | _] = row(text, "payments")
      assert ["refunds", "closed" | _] = row(text, "refunds")
      assert text =~ "attempts 1  :declined"

      assert {refused, 1} = top(~w(--node #{node} --cookie there --once), env)
      assert refused =~ "#{node} can't be reached"
      Port.close(port)
    end

    test "says what it misses", %{env: env} do
      assert {text, 1} = top([], env)
      assert text =~ "which node? Say --node name@host"
      assert {text, 1} = top(~w(--node payments), env)
      assert text =~ "--node payments names no host"
      assert {text, 1} = top(~w(--nod x), env)
      assert text =~ "unknown option or value: --nod"
    end
  end
end
