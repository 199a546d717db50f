defmodule PaymentQueue.Nats.FailoverTest do
  # Three servers under load, one of them killed and started again: what was acknowledged is delivered. Doubles are counted.
  use PaymentQueue.QueueCase, async: false

  alias PaymentQueue.NatsServer

  @moduletag :nats
  @moduletag timeout: 600_000

  # Three servers that were just started may find no leader for minutes; three others do.
  defp cluster!(tries \\ 3) do
    servers = NatsServer.cluster()

    case replicated(servers, System.monotonic_time(:second) + 60) do
      {:error, _} when tries > 1 -> cluster!(tries - 1)
      {:ok, queue} -> {servers, queue}
    end
  end

  # A new cluster elects its leader first.
  defp replicated(servers, deadline) do
    name = new_name()
    engine = {:nats, servers: Enum.map(servers, & &1.address), replicas: 3, ack_wait: 5_000}

    case start_supervised({PaymentQueue, name: name, engine: engine}, id: make_ref()) do
      {:ok, _} ->
        {:ok, name}

      error ->
        let_pass(500)
        if System.monotonic_time(:second) < deadline, do: replicated(servers, deadline), else: error
    end
  end

  # One answer of one server is not believed: for five seconds, each of the three copies is empty and all end at the same place.
  defp empty!(servers, queue, agreed \\ 0, tries \\ 240)
  defp empty!(_servers, _queue, 10, _tries), do: :ok

  defp empty!(servers, queue, agreed, tries) do
    copies = NatsServer.copies(servers, queue)
    if tries == 0, do: flunk("not empty on every server, as {messages, first, last}: #{inspect(copies)}")
    empty? = match?([{0, _, last}, {0, _, last}, {0, _, last}], copies)
    let_pass(500)
    empty!(servers, queue, if(empty?, do: agreed + 1, else: 0), tries - 1)
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

  defp under_load(outages) do
    {servers, queue} = cluster!()
    seen = :ets.new(:seen, [:public, write_concurrency: true])
    producers = for p <- 1..8, do: spawn_link(fn -> produce(queue, seen, p, 1) end)
    consumers = for _ <- 1..8, do: spawn_link(fn -> consume(queue, seen) end)
    outages.(servers)
    for pid <- producers, do: send(pid, {:stop, self()})
    for _ <- producers, do: assert_receive({:produced, _}, 60_000)
    assert PaymentQueue.drain(queue, timeout: 120_000) == :ok
    empty!(servers, queue)
    for pid <- consumers, do: Process.unlink(pid) && kill(pid)

    {acknowledged, delivered} =
      {:ets.match(seen, {{:acknowledged, :"$1"}}), :ets.match(seen, {{:delivered, :"$1"}, :"$2"})}

    items = MapSet.new(delivered, &hd/1)
    lost = Enum.reject(acknowledged, fn [item] -> item in items end)
    doubles = delivered |> Enum.map(fn [_, n] -> n - 1 end) |> Enum.sum()
    refused = :ets.match(seen, {{:refused, :"$1"}, :"$2"})
    info = PaymentQueue.info(queue)

    IO.puts(
      "\nfailover: #{length(acknowledged)} acknowledged, #{length(lost)} lost, #{doubles} delivered twice, " <>
        "refused: #{inspect(refused)}, publishes found stored when repeated: #{info.repeated}"
    )

    # Given up is not lost, but nobody gave up here.
    assert info.dead == 0

    assert length(acknowledged) > 100
    assert lost == []
  end

  test "servers killed and started again in a loop" do
    under_load(fn servers ->
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
    under_load(fn [server | _] ->
      let_pass(2_000)
      NatsServer.kill(server)
      let_pass(130_000)
      server |> NatsServer.start_again() |> NatsServer.await()
      let_pass(20_000)
    end)
  end
end
