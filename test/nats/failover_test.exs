defmodule PaymentQueue.Nats.FailoverTest do
  # Three servers under load, one of them killed and started again: what was acknowledged is delivered. Doubles are counted.
  use PaymentQueue.QueueCase, async: false

  alias PaymentQueue.NatsServer

  @moduletag :nats
  @moduletag timeout: 600_000

  defp replicated!(servers) do
    name = new_name()
    addresses = Enum.map(servers, & &1.address)
    engine = {:nats, servers: addresses, stream: "#{name}", replicas: 3, ack_wait: 5_000}
    # A new cluster elects its leader first.
    eventually(fn -> match?({:ok, _}, start_supervised({PaymentQueue, name: name, engine: engine}, id: make_ref())) end)
    name
  end

  defp produce(queue, seen, p, n) do
    receive do
      {:stop, from} -> send(from, {:produced, self()})
    after
      0 ->
        case PaymentQueue.enqueue({p, n}, queue: queue, timeout: 30_000) do
          :ok -> :ets.insert(seen, {{:acknowledged, {p, n}}})
          {:error, reason} -> :ets.update_counter(seen, {:refused, reason}, 1, {{:refused, reason}, 0})
        end

        produce(queue, seen, p, n + 1)
    end
  end

  defp consume(queue, seen) do
    with {:ok, item, lease} <- PaymentQueue.take(queue: queue, timeout: 1_000) do
      :ets.update_counter(seen, {:delivered, item}, 1, {{:delivered, item}, 0})
      PaymentQueue.ack(lease)
    end

    consume(queue, seen)
  end

  defp under_load(servers, outages) do
    queue = replicated!(servers)
    seen = :ets.new(:seen, [:public, write_concurrency: true])
    producers = for p <- 1..8, do: spawn_link(fn -> produce(queue, seen, p, 1) end)
    consumers = for _ <- 1..8, do: spawn_link(fn -> consume(queue, seen) end)
    outages.()
    for pid <- producers, do: send(pid, {:stop, self()})
    for _ <- producers, do: assert_receive({:produced, _}, 60_000)
    assert PaymentQueue.drain(queue, timeout: 60_000) == :ok
    for pid <- consumers, do: Process.unlink(pid) && kill(pid)

    {acknowledged, delivered} =
      {:ets.match(seen, {{:acknowledged, :"$1"}}), :ets.match(seen, {{:delivered, :"$1"}, :"$2"})}

    items = MapSet.new(delivered, &hd/1)
    lost = Enum.reject(acknowledged, fn [item] -> item in items end)
    doubles = delivered |> Enum.map(fn [_, n] -> n - 1 end) |> Enum.sum()
    refused = :ets.match(seen, {{:refused, :"$1"}, :"$2"})

    IO.puts(
      "\nfailover: #{length(acknowledged)} acknowledged, #{length(lost)} lost, #{doubles} delivered twice, " <>
        "refused: #{inspect(refused)}, publishes found stored when repeated: #{PaymentQueue.info(queue).repeated}"
    )

    assert length(acknowledged) > 100
    assert lost == []
  end

  test "servers killed and started again in a loop" do
    servers = NatsServer.cluster()

    under_load(servers, fn ->
      for server <- servers do
        let_pass(2_000)
        NatsServer.kill(server)
        let_pass(3_000)
        server |> NatsServer.start_again() |> NatsServer.await()
      end

      let_pass(3_000)
    end)
  end

  @tag :long
  test "a server that is away for over two minutes" do
    [server | _] = servers = NatsServer.cluster()

    under_load(servers, fn ->
      let_pass(2_000)
      NatsServer.kill(server)
      let_pass(130_000)
      server |> NatsServer.start_again() |> NatsServer.await()
      let_pass(20_000)
    end)
  end
end
