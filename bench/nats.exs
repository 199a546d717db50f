# Queues in NATS against the raw client: MIX_ENV=test mix run bench/nats.exs [--items N] [--workers N] [--rounds N] [--raw PROGRAM]
#
# The floor is native/payment_queue_nats/examples/raw.rs: async-nats alone, the same server, the same number in flight, each ack
# confirmed. The rounds alternate, each with streams of its own on one server; the medians are compared.
unless Code.ensure_loaded?(PaymentQueue.NatsServer), do: Code.require_file("../test/support/nats_server.ex", __DIR__)

defmodule NatsBench do
  @payload %{correlation_id: "6a1f0a52-7b3a-4a0e-9d0c-0b6f6c1d2e3f", amount: 1990}

  def run(items, workers, rounds, raw) do
    raw = raw || build!()
    server = PaymentQueue.NatsServer.start()
    results = for round <- 1..rounds, do: {raw(raw, server, items, workers, round), ours(server, items, workers, round)}
    {raw, ours} = Enum.unzip(results)
    {version, 0} = System.cmd(PaymentQueue.NatsServer.program(), ["--version"])
    IO.puts("#{workers} in flight, #{items} items, medians of #{rounds} rounds, #{String.trim(version)}\n")
    IO.puts("| per second | raw client | PaymentQueue | share |\n|---|---|---|---|")
    row("enqueue, acknowledged", median(raw, 0), median(ours, 0))
    row("take + confirmed ack", median(raw, 1), median(ours, 1))
  end

  defp median(results, at), do: results |> Enum.map(&elem(&1, at)) |> Enum.sort() |> Enum.at(div(length(results), 2))

  defp row(name, raw, ours), do: IO.puts("| #{name} | #{raw} | #{ours} | #{round(100 * ours / raw)} % |")

  # Before anything is measured.
  defp build! do
    {_, 0} = System.cmd("cargo", ~w(build --quiet --release -p payment_queue_nats --example raw))
    Path.expand("../target/release/examples/raw", __DIR__)
  end

  defp raw(raw, server, items, workers, round) do
    {text, 0} = System.cmd(raw, [server.address | Enum.map([items, workers, round], &"#{&1}")])
    text |> String.split() |> Enum.map(&String.to_integer/1) |> List.to_tuple()
  end

  defp ours(server, items, workers, round) do
    queue = :"bench_#{round}"
    engine = {:nats, servers: [server.address], replicas: 1, prefetch: 4 * workers}
    {:ok, tree} = PaymentQueue.start_link(name: queue, capacity: 10_000_000, engine: engine)
    enqueue = rate(items, workers, fn -> :ok = PaymentQueue.enqueue(@payload, queue: queue) end)

    consume =
      rate(items, workers, fn ->
        {:ok, @payload, lease} = PaymentQueue.take(queue: queue, timeout: 10_000)
        :ok = PaymentQueue.ack(lease)
      end)

    %{queue_size: 0, in_flight: 0} = PaymentQueue.stats(queue)
    Supervisor.stop(tree)
    {enqueue, consume}
  end

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

{opts, _} =
  OptionParser.parse!(System.argv(), strict: [items: :integer, workers: :integer, rounds: :integer, raw: :string])

NatsBench.run(opts[:items] || 64_000, opts[:workers] || 64, opts[:rounds] || 3, opts[:raw])
