# Queues in NATS against the raw client: MIX_ENV=test mix run bench/nats.exs [--items N] [--rounds R] [--raw PROGRAM]
#
# The floor is native/payment_queue_nats/examples/raw.rs: async-nats alone, the same server, the same number in flight, each ack
# confirmed. The rounds alternate, each with streams of its own on one server; the medians are compared. The shapes are those that
# the table of the local queue begins with: so many producers and so many workers, each with one call under way.
#
# `--items` is for 64 producers and workers; fewer of these get fewer items.
defmodule NatsBench do
  @shapes for kind <- ["map", "256 B"], processes <- [1, 4, 64], do: {kind, processes}
  @rows ["enqueued alone", "taken and settled alone", "all at the same time"]

  def run(items, rounds, raw) do
    raw = raw || build!()
    server = PaymentQueue.NatsServer.start()
    {version, 0} = System.cmd(PaymentQueue.NatsServer.program(), ["--version"])
    IO.puts("items per second, medians of #{rounds} rounds, #{String.trim(version)}, replicas: 1\n")
    IO.puts("| | | raw client | PaymentQueue | share |\n|---|---|---|---|---|")

    for {{kind, processes}, shape} <- Enum.with_index(@shapes) do
      # A multiple of the processes, so that all have as many.
      items = max(div(items * min(processes + 4, 64), 64 * processes), 100) * processes

      results =
        for round <- 1..rounds do
          name = "#{shape}_#{round}"
          {raw(raw, server, items, processes, payload(kind), name), ours(server, items, processes, payload(kind), name)}
        end

      {raws, ours} = Enum.unzip(results)

      for {row, at} <- Enum.with_index(@rows),
          do: row("#{kind} #{processes}+#{processes}", row, median(raws, at), median(ours, at))
    end
  end

  defp payload("map"), do: %{correlation_id: "6a1f0a52-7b3a-4a0e-9d0c-0b6f6c1d2e3f", amount: 1990}
  defp payload("256 B"), do: :binary.copy("x", 256)

  defp bytes(payload) when is_binary(payload), do: byte_size(payload)
  defp bytes(payload), do: payload |> :erlang.term_to_binary() |> byte_size()

  defp median(results, at), do: results |> Enum.map(&Enum.at(&1, at)) |> Enum.sort() |> Enum.at(div(length(results), 2))

  defp row(shape, name, raw, ours),
    do: IO.puts("| #{shape} | #{name} | #{raw} | #{ours} | #{round(100 * ours / raw)} % |")

  # Before anything is measured.
  defp build! do
    {_, 0} = System.cmd("cargo", ~w(build --quiet --release -p payment_queue_nats --example raw))
    Path.expand("../target/release/examples/raw", __DIR__)
  end

  defp raw(raw, server, items, processes, payload, name) do
    {text, 0} = System.cmd(raw, [server.address, "#{items}", "#{processes}", "#{bytes(payload)}", name])
    text |> String.split() |> Enum.map(&String.to_integer/1)
  end

  defp ours(server, items, processes, payload, name) do
    queue = :"bench_#{name}"
    engine = {:nats, servers: [server.address], replicas: 1, prefetch: 4 * processes}
    {:ok, tree} = PaymentQueue.start_link(name: queue, capacity: 10_000_000, engine: engine)
    each = div(items, processes)

    producers =
      List.duplicate(fn -> for _ <- 1..each, do: :ok = PaymentQueue.enqueue(payload, queue: queue) end, processes)

    workers = List.duplicate(fn -> work(queue, payload, each, nil) end, processes)
    rates = for crew <- [producers, workers, producers ++ workers], do: rate(items, crew)
    %{queue_size: 0, in_flight: 0} = PaymentQueue.stats(queue)
    Supervisor.stop(tree)
    rates
  end

  defp work(_queue, _payload, 0, lease), do: :ok = PaymentQueue.ack(lease)

  defp work(queue, payload, left, lease) do
    options = if lease, do: [ack: lease], else: []
    {:ok, ^payload, lease} = PaymentQueue.take([queue: queue, timeout: 60_000] ++ options)
    work(queue, payload, left - 1, lease)
  end

  defp rate(items, crew) do
    {us, _} = :timer.tc(fn -> crew |> Enum.map(&Task.async/1) |> Task.await_many(:infinity) end)
    round(items * 1_000_000 / us)
  end
end

{opts, _} = OptionParser.parse!(System.argv(), strict: [items: :integer, rounds: :integer, raw: :string])
NatsBench.run(opts[:items] || 48_000, opts[:rounds] || 3, opts[:raw])
