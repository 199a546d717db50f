defmodule PaymentQueue.Nats.DifferencesTest do
  # What a queue in NATS does otherwise than one in this VM, as guides/nats.md says. What is equal: test/conformance.
  use PaymentQueue.QueueCase, async: false

  alias PaymentQueue.NatsServer

  @moduletag :nats

  setup_all do: %{servers: [NatsServer.start().address]}

  defp start(%{servers: servers}, opts \\ [], engine \\ []),
    do: queue!([durability: :none, dir: nil, engine: {:nats, [servers: servers, replicas: 1] ++ engine}] ++ opts)

  test "what is in flight takes up room", context do
    queue = start(context, capacity: 1)
    :ok = PaymentQueue.enqueue(1, queue: queue)
    {:ok, 1, lease} = PaymentQueue.take(queue: queue, timeout: 5_000)
    assert PaymentQueue.enqueue(2, queue: queue) == {:error, :queue_full}
    :ok = PaymentQueue.ack(lease)
    assert PaymentQueue.enqueue(2, queue: queue) == :ok
  end

  test "purge removes what is in flight, too; its late ack is harmless", context do
    queue = start(context)
    {:ok, 2} = PaymentQueue.enqueue_many([1, 2], queue: queue)
    {:ok, 1, lease} = PaymentQueue.take(queue: queue, timeout: 5_000)
    assert PaymentQueue.purge(queue) == {:ok, 2}
    assert PaymentQueue.ack(lease) == :ok
    :ok = PaymentQueue.enqueue(3, queue: queue)
    assert take_all(queue) == [3]
  end

  test "a snooze uses up an attempt: the last one is a dead letter", context do
    queue = start(context, handler: fn _ -> {:snooze, 1} end, concurrency: 1, max_attempts: 3)
    :ok = PaymentQueue.enqueue(:sleepy, queue: queue)
    assert [%{payload: :sleepy, attempts: 3}] = dead_letters(queue, 1)
  end

  test "options that a server cannot keep are refused by name", %{servers: servers} = context do
    engine = {:nats, servers: servers, replicas: 1}

    for option <- [rate_limit: {1, 1_000}, unique_for: 5, priorities: 2] do
      message = start_refused([option, engine: engine])

      assert message =~
               "option #{inspect(elem(option, 0))} of PaymentQueue.start_link/1 is not supported by the engine :nats"

      assert message =~ "Supported: :name, :engine, :handler"
    end

    for {key, _} = option <- [durability: :sync, dir: "/tmp"],
        do:
          assert(
            start_refused([option, engine: engine] ++ if(key == :dir, do: [durability: :async], else: [dir: "x"])) =~
              ~r/:(durability|dir) /
          )

    queue = start(context)
    :ok = PaymentQueue.configure(queue, capacity: 5, max_attempts: 2)
    assert %{capacity: 5, max_attempts: 2} = PaymentQueue.info(queue)
    refused(~r/:rate_limit of PaymentQueue.configure\/2/, fn -> PaymentQueue.configure(queue, rate_limit: {1, 1}) end)

    for {key, value} <- [priority: 1, key: 7, partition: 8] do
      refused(~r/#{inspect(key)} of PaymentQueue.enqueue is not supported by the engine :nats \(got: #{value}\)/, fn ->
        PaymentQueue.enqueue(1, [{:queue, queue}, {key, value}])
      end)
    end

    refused(~r/:key of PaymentQueue.enqueue_many is not supported/, fn ->
      PaymentQueue.enqueue_many([1], queue: queue, key: & &1)
    end)

    refused(~r/:priority of PaymentQueue.enqueue_many is not supported/, fn ->
      PaymentQueue.enqueue_many([1], queue: queue, priority: 3)
    end)

    assert PaymentQueue.stats(queue) == %{queue_size: 0, in_flight: 0}
  end

  defp start_refused(opts) do
    error = assert_raise ArgumentError, fn -> PaymentQueue.start_link([name: new_name()] ++ opts) end
    error.message
  end

  defp refused(pattern, fun), do: assert_raise(ArgumentError, pattern, fun)

  test "many with a delay come after it, in their order", context do
    queue = start(context)
    assert PaymentQueue.enqueue_many([1, 2, 3], queue: queue, delay: 500) == {:ok, 3}
    assert PaymentQueue.take(queue: queue) == :empty
    taken = for _ <- 1..3, do: elem(PaymentQueue.take(queue: queue, timeout: 5_000), 1)
    assert Enum.sort(taken) == [1, 2, 3]
  end

  test "a queue stays where it was opened", %{servers: servers} = context do
    queue = start(context)
    stop_supervised!(queue)
    # The number of workers, and with it the prefetch, may change.
    again =
      {PaymentQueue,
       name: queue, engine: {:nats, servers: servers, replicas: 1}, handler: fn _ -> :ok end, concurrency: 3}

    start_supervised!(again, id: :again)
    stop_supervised!(:again)
    assert {:error, {reason, _}} = start_supervised({PaymentQueue, name: queue}, id: make_ref())
    assert inspect(reason) =~ "runs in this VM with the engine :nats"
    other = {:nats, servers: servers, replicas: 1, stream: "another"}
    assert {:error, {reason, _}} = start_supervised({PaymentQueue, name: queue, engine: other}, id: make_ref())
    assert inspect(reason) =~ "with other options of its engine"
    local = queue!(durability: :none, dir: nil)
    stop_supervised!(local)
    engine = {:nats, servers: servers, replicas: 1}
    assert {:error, {reason, _}} = start_supervised({PaymentQueue, name: local, engine: engine}, id: make_ref())
    assert inspect(reason) =~ "runs in this VM without an engine"
  end

  test "no histograms, no percentiles; whether the servers answer", context do
    queue = start(context)
    refute Map.has_key?(PaymentQueue.info(queue), :wait_us)
    metrics = IO.iodata_to_binary(PaymentQueue.Prometheus.text(queues: [queue]))
    refute metrics =~ "_bucket{"
    assert metrics =~ ~s(payment_queue_connected{queue="#{queue}"} 1\n)
  end

  test "a message of another client, without our headers, is a binary", %{servers: [address]} = context do
    queue = start(context, [], stream: "foreign")
    [host, port] = String.split(address, ":")
    {:ok, socket} = :gen_tcp.connect(String.to_charlist(host), String.to_integer(port), [:binary, active: false])
    :ok = :gen_tcp.send(socket, "CONNECT {\"verbose\":false}\r\nPUB payment_queue.foreign 5\r\nhello\r\nPING\r\n")
    assert {:ok, "hello", lease} = PaymentQueue.take(queue: queue, timeout: 5_000)
    assert PaymentQueue.ack(lease) == :ok
    :gen_tcp.close(socket)
  end

  test "a term with atoms that this VM does not know fails, and makes no atom", %{servers: [address]} = context do
    queue = start(context, [max_attempts: 1], stream: "atoms")
    name = "never_seen_#{System.unique_integer([:positive])}_#{System.pid()}"
    # As another node would write it: SMALL_ATOM_UTF8_EXT.
    term = <<131, 119, byte_size(name), name::binary>>
    headers = "NATS/1.0\r\nPQ-Format: term\r\n\r\n"
    [host, port] = String.split(address, ":")
    {:ok, socket} = :gen_tcp.connect(String.to_charlist(host), String.to_integer(port), [:binary, active: false])
    sizes = "#{byte_size(headers)} #{byte_size(headers) + byte_size(term)}"

    :ok =
      :gen_tcp.send(socket, [
        "CONNECT {\"verbose\":false,\"headers\":true}\r\nHPUB payment_queue.atoms #{sizes}\r\n",
        [headers, term, "\r\nPING\r\n"]
      ])

    eventually(fn -> PaymentQueue.stats(queue).queue_size == 1 end)
    assert PaymentQueue.take(queue: queue) == :empty
    assert [%{payload: {:undecodable, ^term}, reason: :undecodable}] = dead_letters(queue, 1)
    assert_raise ArgumentError, fn -> String.to_existing_atom(name) end
    :gen_tcp.close(socket)
  end
end
