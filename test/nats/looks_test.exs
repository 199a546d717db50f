defmodule PaymentQueue.Nats.LooksTest do
  # The dashboard, `mix payment_queue.top` and the LiveDashboard page: a queue in NATS is among the others, with what is known of
  # it, also while its server does not answer.
  use PaymentQueue.QueueCase, async: false

  alias PaymentQueue.Dashboard.Events
  alias PaymentQueue.{JsonReader, LiveDashboard, NatsServer, Snapshot, Top}

  @moduletag :nats

  setup do
    server = NatsServer.start()
    engine = {:nats, servers: [server.address], replicas: 1}
    queue = queue!(durability: :none, dir: nil, engine: engine, capacity: 8, handler: asking(self()), concurrency: 1)
    {:ok, 3} = PaymentQueue.enqueue_many([:first, "second", "third"], queue: queue)
    assert_receive {:handling, worker, :first}
    send(worker, {:return, {:cancel, :declined}})
    assert_receive {:handling, ^worker, "second"}
    eventually(fn -> match?(%{dead: 1}, PaymentQueue.info(queue)) end)
    {:ok, server: server, queue: queue}
  end

  defp event(stream) do
    {data, stream} = Events.next(stream)
    "data: " <> text = IO.iodata_to_binary(data)
    {JsonReader.decode!(text), stream}
  end

  defp top(queue) do
    before = Top.collect(to_string(queue))
    to_string(queue) |> Top.collect() |> Top.Text.render(before) |> Enum.map(&IO.iodata_to_binary/1)
  end

  # Without its colours.
  defp top_row(queue),
    do: queue |> top() |> Enum.find(&String.starts_with?(&1, "#{queue} ")) |> String.replace(~r/\e\[\d+m/, "")

  defp page_row(queue), do: %{search: to_string(queue)} |> LiveDashboard.rows(node(), %{}) |> elem(0) |> hd()

  test "with a server", %{queue: queue} do
    assert %{info: %{state: :running, settled: 0, dead: 1}, waits: nil, workers: %{running: 1}} = Snapshot.take(queue)
    stream = Events.new([queue], queue, true)
    {event, stream} = event(stream)
    assert %{"queues" => [%{"state" => "running"}], "dead" => [%{"payload" => ":first"}], "queue" => shown} = event

    assert %{"info" => %{"dead" => 1, "memory" => nil}, "settings" => %{"capacity" => 8}, "taken" => 2, "change" => nil} =
             shown

    {event, _stream} = event(stream)
    assert %{"change" => %{"settled" => 0.0, "wait_us" => nil}} = event["queue"]
    assert top_row(queue) =~ ~r/running .* –  .* 1 +1$/
    assert Enum.any?(top(queue), &(&1 =~ "consumers –, of which"))
    assert %{state: :running, full: 25, wait_p99: nil, dead: 1} = page_row(queue)
  end

  test "without one: offline, with what this node counts", %{server: server, queue: queue} do
    {_event, stream} = event(Events.new([queue], queue, true))
    NatsServer.kill(server)
    eventually(fn -> match?(%{info: %{state: :offline}}, Snapshot.take(queue)) end)
    {event, stream} = event(stream)
    assert %{"queues" => [%{"state" => "offline", "queue_size" => nil}], "dead" => nil} = event
    assert %{"queue_size" => nil, "enqueued" => 3, "settled" => 0} = event["queue"]["info"]
    assert top_row(queue) =~ ~r/offline +– +– +– +0 +0 +0/
    assert %{state: :offline, full: nil, dead: nil} = page_row(queue)

    server |> NatsServer.start_again() |> NatsServer.await()
    eventually(fn -> match?(%{info: %{state: :running, dead: 1}}, Snapshot.take(queue)) end)
    assert {%{"queues" => [%{"state" => "running"}]}, _stream} = event(stream)
  end
end
