defmodule PaymentQueue.Nats.TwoVmsTest do
  # Two VMs work on one queue; one of them is killed with items in its hands.
  use PaymentQueue.QueueCase, async: false

  alias PaymentQueue.NatsServer

  @moduletag :nats

  # What the other VM runs: it takes items and never settles them.
  @hoarder """
  [name, address, n] = System.argv()
  {:ok, _} = Application.ensure_all_started(:logger)
  queue = String.to_atom(name)
  engine = {:nats, servers: [address], stream: name, replicas: 1, ack_wait: 2_000}
  {:ok, _} = PaymentQueue.start_link(name: queue, engine: engine)
  items = PaymentQueue.take_many(String.to_integer(n), queue: queue)
  IO.puts("holding \#{length(items)} \#{System.pid()}")
  Process.sleep(:infinity)
  """

  test "what a killed VM held is delivered to the other, and nothing else twice" do
    server = NatsServer.start()
    name = new_name()
    engine = {:nats, servers: [server.address], stream: "#{name}", replicas: 1, ack_wait: 2_000}
    start_supervised!({PaymentQueue, name: name, engine: engine})
    {:ok, 100} = PaymentQueue.enqueue_many(Enum.to_list(1..100), queue: name)

    paths = Enum.flat_map(:code.get_path(), &if(to_string(&1) =~ "payment_queue", do: ["-pa", to_string(&1)], else: []))
    args = paths ++ ["-e", @hoarder, "--", "#{name}", server.address, "30"]
    port = Port.open({:spawn_executable, System.find_executable("elixir")}, [:binary, line: 1_000, args: args])
    assert_receive {^port, {:data, {:eol, "holding 30 " <> pid}}}, 60_000

    first = take_all(name)
    assert length(first) == 70
    {_, 0} = System.cmd("kill", ["-9", pid])

    second =
      for _ <- 1..30 do
        assert {:ok, item, lease} = PaymentQueue.take(queue: name, timeout: 30_000)
        assert PaymentQueue.attempt(lease) == 2
        assert PaymentQueue.ack(lease) == :ok
        item
      end

    assert Enum.sort(first ++ second) == Enum.to_list(1..100)
    assert PaymentQueue.stats(name) == %{queue_size: 0, in_flight: 0}
  end

  test "an item that its live holder works on longer than ack_wait is given to nobody else" do
    server = NatsServer.start()
    name = new_name()
    engine = {:nats, servers: [server.address], replicas: 1, ack_wait: 1_000}
    start_supervised!({PaymentQueue, name: name, engine: engine})
    :ok = PaymentQueue.enqueue(:long, queue: name)
    {:ok, :long, lease} = PaymentQueue.take(queue: name)
    assert PaymentQueue.take(queue: name, timeout: 2_500) == :empty
    assert PaymentQueue.ack(lease) == :ok
  end
end
