defmodule PaymentQueue.PrometheusTest do
  use PaymentQueue.QueueCase, async: true

  doctest PaymentQueue.Prometheus

  alias PaymentQueue.Prometheus

  defp text(queues), do: IO.iodata_to_binary(Prometheus.text(queues: List.wrap(queues)))

  # name and labels => value
  defp samples(text) do
    for line <- String.split(text, "\n", trim: true), not String.starts_with?(line, "#"), into: %{} do
      [_, sample, value] = Regex.run(~r/^(\w+\{.*\}) (\S+)$/, line)
      {sample, value |> Float.parse() |> elem(0)}
    end
  end

  # Items of every fate.
  defp busy_queue do
    queue = queue!(capacity: 12, max_dead: 1)
    {:error, :queue_full, 12} = PaymentQueue.enqueue_many(Enum.to_list(1..13), queue: queue)
    take = fn -> PaymentQueue.take(queue: queue) |> elem(2) end
    for _ <- 1..4, do: :ok = PaymentQueue.ack(take.())
    for _ <- 1..3, do: :ok = PaymentQueue.reject(take.(), :declined)
    :ok = PaymentQueue.nack(take.())
    :ok = PaymentQueue.nack(take.(), delay: 60_000)
    _in_flight = take.()
    queue
  end

  test "says what info says" do
    queue = busy_queue()
    info = PaymentQueue.info(queue)
    samples = samples(text(queue))
    value = &Map.fetch!(samples, ~s(payment_queue_#{&1}{queue="#{queue}"}))

    for name <- ~w(enqueued settled redelivered rejected_full dead_dropped purged)a do
      assert value.("#{name}_total") == info[name], "#{name}"
    end

    assert value.("rejected_full_total") == 1
    assert value.("dead_dropped_total") == 2
    assert {value.("depth"), value.("in_flight"), value.("scheduled")} == {3, 1, 1}
    assert {value.("dead_letters"), value.("consumers"), value.("parked_consumers")} == {1, 1, 0}
    assert value.("capacity_items") == 12
    assert value.("capacity_bytes") == info.max_bytes
    assert value.("payload_bytes") == info.bytes
    assert value.("memory_bytes") > 0
    assert value.("oldest_age_seconds") >= 0
    state = &samples[~s(payment_queue_state{queue="#{queue}",state="#{&1}"})]
    assert {state.(:running), state.(:paused), state.(:closed)} == {1, 0, 0}
    :ok = PaymentQueue.pause(queue)
    assert samples(text(queue))[~s(payment_queue_state{queue="#{queue}",state="paused"})] == 1
  end

  test "histograms: each taken item and each ended lease once, in rising buckets" do
    queue = busy_queue()
    text = text(queue)

    for {metric, count} <- [{"wait_seconds", 9}, {"handler_seconds", 9}] do
      buckets =
        for [_, le, n] <- Regex.scan(~r/payment_queue_#{metric}_bucket\{queue="#{queue}",le="([^"]+)"\} (\d+)/, text),
            do: {le, String.to_integer(n)}

      bounds = for {le, _} <- buckets, le != "+Inf", do: le |> Float.parse() |> elem(0)
      assert length(bounds) == 28
      assert bounds == Enum.sort(bounds)
      assert {hd(bounds), List.last(bounds)} == {0.000016, 2147.483648}
      counts = Enum.map(buckets, &elem(&1, 1))
      assert counts == Enum.sort(counts)
      assert List.last(buckets) == {"+Inf", count}
      assert samples(text)[~s(payment_queue_#{metric}_count{queue="#{queue}"})] == count
      assert samples(text)[~s(payment_queue_#{metric}_sum{queue="#{queue}"})] >= 0
    end
  end

  test "a durable queue's disk: what info says, and nothing of it for a queue in memory" do
    {durable, plain} = {queue!(durability: :sync, dir: scratch_dir()), queue!(durability: :none, dir: nil)}
    {:ok, 3} = PaymentQueue.enqueue_many([1, 2, 3], queue: durable)
    :ok = PaymentQueue.flush(durable)
    samples = samples(text([durable, plain]))
    %{storage: storage} = PaymentQueue.info(durable)
    value = &Map.fetch!(samples, ~s(payment_queue_storage_#{&1}{queue="#{durable}"}))
    assert {value.("up"), value.("unwritten_steps"), value.("lag_seconds")} == {1, 0, 0}
    assert value.("commits_total") == storage.commits and storage.commits > 0
    assert value.("bytes") > 0
    refute Enum.any?(samples, fn {sample, _} -> sample =~ "storage" and sample =~ ~s("#{plain}") end)
  end

  test "several queues stand together under each metric" do
    queues = [queue!(), queue!()]
    text = text(queues)
    assert length(Regex.scan(~r/# TYPE payment_queue_depth gauge/, text)) == 1

    [_, samples] = Regex.run(~r/# TYPE payment_queue_depth gauge\n((?:payment.*\n)*)/, text)
    assert length(String.split(samples, "\n", trim: true)) == 2
  end

  test "labels are escaped, and two names are two labels" do
    odd = String.to_atom("odd \"\\\n #{System.unique_integer([:positive])}")
    queue!(name: odd)
    assert text(odd) =~ ~S(payment_queue_depth{queue="odd \"\\\n )
    assert Enum.map([:Foo, Foo, :foo, Foo.Bar], &PaymentQueue.Snapshot.label/1) == [":Foo", "Foo", "foo", "Foo.Bar"]
  end

  test "without a queue there are the names of the metrics alone" do
    text = text(:never_started)
    assert text =~ "# TYPE payment_queue_wait_seconds histogram\n"
    assert samples(text) == %{}
  end

  test "says what is wrong with an option" do
    assert_raise ArgumentError, ~r/invalid value for :queues: "a"; allowed: :all or a list/, fn ->
      Prometheus.text(queues: "a")
    end
  end

  @tag :promtool
  @tag :tmp_dir
  test "promtool has nothing to complain about", %{tmp_dir: dir} do
    odd = String.to_atom("odd \"\\\n #{System.unique_integer([:positive])}")
    queue!(name: odd)
    file = Path.join(dir, "metrics")
    File.write!(file, text([busy_queue(), odd]))
    check = ~s(exec promtool check metrics < "$0")
    assert {"", 0} = System.cmd("sh", ["-c", check, file], stderr_to_stdout: true)

    # It can complain.
    File.write!(file, "# TYPE payments counter\npayments 1\n")
    assert {complaint, 3} = System.cmd("sh", ["-c", check, file], stderr_to_stdout: true)
    assert complaint =~ "_total"
  end

  test "the Grafana dashboard asks for nothing that is not exported" do
    [queue] = [busy_queue()]
    exported = for [_, name] <- Regex.scan(~r/^(payment_queue_\w+)\{/m, text(queue)), into: MapSet.new(), do: name
    json = File.read!("examples/grafana/payment_queue.json")
    asked = for [name] <- Regex.scan(~r/payment_queue_[a-z_]+(?=[\[{, )])/, json), into: MapSet.new(), do: name
    assert MapSet.size(asked) > 10
    assert MapSet.to_list(MapSet.difference(asked, exported)) == []
  end

  # A gauge that falls is a counter's reset to rate() and increase(): an alert when dead letters are put back.
  test "the alerts of the Grafana page ask for what is exported, and only of counters how they rise" do
    types =
      for [_, name, type] <- Regex.scan(~r/^# TYPE (\w+) (\w+)$/m, text([busy_queue()])), into: %{}, do: {name, type}

    [_, alerts] = "examples/grafana/README.md" |> File.read!() |> String.split("Alerts that are worth having:")
    asked = Regex.scan(~r/(?:(rate|increase)\()?(payment_queue_\w+)/, alerts, capture: :all_but_first)
    assert length(asked) > 5

    for [function, name] <- asked,
        do: assert(types[name] == "counter" or (function == "" and types[name]), "#{function}(#{name})")
  end
end
