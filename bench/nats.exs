# Queues in NATS against the raw client: MIX_ENV=test mix run bench/nats.exs [--items N]
#
# The floor is native/payment_queue_nats/examples/raw.rs: async-nats alone, the same server, the same number in flight, each ack
# confirmed.
unless Code.ensure_loaded?(PaymentQueue.NatsServer), do: Code.require_file("../test/support/nats_server.ex", __DIR__)

defmodule NatsBench do
  @payload %{correlation_id: "6a1f0a52-7b3a-4a0e-9d0c-0b6f6c1d2e3f", amount: 1990}

  def run(items, workers) do
    server = PaymentQueue.NatsServer.start()
    engine = {:nats, servers: [server.address], stream: "bench", replicas: 1, prefetch: 4 * workers}
    {:ok, _} = PaymentQueue.start_link(name: :bench, capacity: 10_000_000, engine: engine)
    enqueue = rate(items, workers, fn -> :ok = PaymentQueue.enqueue(@payload, queue: :bench) end)

    consume =
      rate(items, workers, fn ->
        {:ok, @payload, lease} = PaymentQueue.take(queue: :bench, timeout: 10_000)
        :ok = PaymentQueue.ack(lease)
      end)

    %{queue_size: 0, in_flight: 0} = PaymentQueue.stats(:bench)

    {raw, 0} =
      System.cmd(
        "cargo",
        ~w(run --quiet --release -p payment_queue_nats --example raw -- #{server.address} #{items} #{workers})
      )

    [raw_publish, raw_consume] = raw |> String.split() |> Enum.map(&String.to_integer/1)
    IO.puts("#{workers} in flight, #{items} items\n")
    IO.puts("| per second | raw client | PaymentQueue | share |\n|---|---|---|---|")
    row("enqueue, acknowledged", raw_publish, enqueue)
    row("take + confirmed ack", raw_consume, consume)
  end

  defp row(name, raw, ours), do: IO.puts("| #{name} | #{raw} | #{ours} | #{round(100 * ours / raw)} % |")

  defp rate(items, workers, fun) do
    {us, _} =
      :timer.tc(fn ->
        1..workers
        |> Enum.map(fn _ -> Task.async(fn -> for _ <- 1..div(items, workers), do: fun.() end) end)
        |> Task.await_many(:infinity)
      end)

    round(items * 1_000_000 / us)
  end
end

{opts, _} = OptionParser.parse!(System.argv(), strict: [items: :integer, workers: :integer])
NatsBench.run(opts[:items] || 64_000, opts[:workers] || 64)
