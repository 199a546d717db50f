defmodule PaymentQueue.OptionsTest do
  use PaymentQueue.QueueCase, async: true

  defmodule Handler do
    @behaviour PaymentQueue.Handler
    @impl true
    def handle(_payload), do: :ok
    def with_args(_payload, :extra), do: :ok
  end

  defp refused(opts),
    do: assert_raise(ArgumentError, fn -> PaymentQueue.start_link([name: :never_started] ++ opts) end).message

  describe "start_link" do
    test "an unknown option: did you mean" do
      assert refused(handlr: Handler) =~ "unknown option :handlr for PaymentQueue.start_link/1. Did you mean :handler?"
      assert refused(concurency: 4) =~ "Did you mean :concurrency?"
      assert refused(max_byte: 4) =~ "Did you mean :max_bytes?"
      assert refused(zzz: 4) =~ "Known options: :name, :capacity"
    end

    test "a wrong value: the option, the value, and what is allowed" do
      assert refused(capacity: 0) == "invalid value for :capacity: 0; allowed: an integer in 1..134217727"
      assert refused(capacity: 134_217_728) =~ ":capacity"
      assert refused(capacity: 1.0) =~ "1.0"
      assert refused(max_bytes: 17_179_869_184) =~ "1..17179869183"
      assert refused(max_payload_bytes: 1_073_741_824) =~ "1..1073741823"
      assert refused(max_attempts: 65_536) =~ "1..65535"
      assert refused(max_dead: -1) =~ "0..10000000"
      assert refused(concurrency: -1) =~ "0..65535"
      assert refused(handler_timeout: 0) =~ "milliseconds in 1..4294967295, or :infinity"
      assert refused(shutdown: "5s") =~ ~s("5s")
      assert refused(backoff: [min: 5, max: 1]) =~ "0 <= min <= max"
      assert refused(backoff: [jitter: 2]) =~ ":backoff"
      assert refused(backoff: [maximum: 2]) =~ ":backoff"
      assert refused(backoff: &{&1, &2}) =~ "a function of the attempt"
      assert refused(batch: 5) =~ "[size: n, wait: ms]"
      assert refused(batch: [size: 0]) =~ ":size"
      assert refused(batch: [sise: 5]) =~ "Did you mean :size?"
      assert refused(telemetry: true) =~ "[spans: boolean, interval: ms, payload: boolean]"
      assert refused(telemetry: [interval: 0]) =~ ":interval"
      assert refused(telemetry: [payloads: true]) =~ "Did you mean :payload?"
      assert refused(name: nil) =~ "an atom"
      assert refused(name: "text") =~ "an atom"
      assert refused(name: String.to_atom(String.duplicate("n", 201))) =~ "200 bytes"
    end

    test "max_payload_bytes is bounded by max_bytes" do
      assert refused(max_bytes: 100, max_payload_bytes: 101) =~ "at most :max_bytes, which is 100"
      queue = queue!(max_bytes: 100)
      assert %{max_bytes: 100, max_payload_bytes: 100} = PaymentQueue.info(queue)
    end

    test "handlers are checked at the start" do
      assert refused(handler: Nonexistent) =~ "Nonexistent is not available"
      assert refused(handler: Enum) =~ "Enum.handle/1 is not exported"
      assert refused(handler: {Handler, :with_args, []}) =~ "with_args/1 is not exported"
      assert refused(handler: fn -> :ok end) =~ "a function of one argument"
      assert refused(handler: "text") =~ ":handler"
      for handler <- [Handler, {Handler, :handle, []}, {Handler, :with_args, [:extra]}], do: queue!(handler: handler)
    end

    test "what comes later is refused, not ignored; its default is accepted" do
      assert refused(order: :lifo) =~ ":order is not supported yet"
      queue!(order: :fifo, engine: nil)
    end

    test "there are 1 to 16 priorities" do
      for wrong <- [0, 17, nil, 1.0], do: assert(refused(priorities: wrong) =~ "an integer in 1..16")
      for n <- [1, 16], do: assert(%{priorities: ^n} = PaymentQueue.info(queue!(priorities: n)))
    end

    test "unique_for is milliseconds, or nil" do
      for wrong <- [-1, 4_294_967_296, 1.0, :infinity],
          do: assert(refused(unique_for: wrong) =~ "0..4294967295, or nil")

      for ms <- [nil, 0, 4_294_967_295], do: assert(%{unique_for: ^ms} = PaymentQueue.info(queue!(unique_for: ms)))
    end

    test "a rate limit is a number of deliveries and a window, or none" do
      for wrong <- [{0, 1_000}, {100_001, 1_000}, {1, 0}, {1, 4_294_967_296}, {1.0, 5}, {1, 2, 3}, 10, :infinity] do
        assert refused(rate_limit: wrong) =~ "{n, ms} with n in 1..100000 and ms in 1..4294967295, or nil"
      end

      for limit <- [nil, {1, 1}, {100_000, 4_294_967_295}],
          do: assert(%{rate_limit: ^limit} = PaymentQueue.info(queue!(rate_limit: limit)))
    end

    test "durability and dir go together" do
      assert refused(durability: :sync) =~ ~r/:durability: :sync; allowed: :none without dir:/
      assert refused(dir: "/tmp/x") =~ ~r/:dir: "\/tmp\/x"; allowed: nothing without durability/
      assert refused(durability: :always, dir: "x") =~ "allowed: :none, :async, :sync"

      for dir <- ["", :dir, <<0>>, <<255>>],
          do: assert(refused(durability: :sync, dir: dir) =~ "the path of a directory")
    end

    test "options are a keyword list" do
      assert_raise ArgumentError, ~r/keyword list/, fn -> PaymentQueue.start_link(%{name: :a}) end
      assert_raise ArgumentError, ~r/keyword list/, fn -> PaymentQueue.start_link([:name]) end
    end
  end

  describe "calls" do
    test "have defaults that pass their own checks, unchanged" do
      for call <- [:enqueue, :enqueue_many, :take, :take_many, :dequeue, :nack, :flush, :drain, :drain_queue] do
        defaults = PaymentQueue.Options.call!(call, [])
        said = for {option, value} <- defaults, value != nil, do: {option, value}
        assert PaymentQueue.Options.call!(call, said) == defaults
      end
    end

    test "refuse what they don't know" do
      queue = queue!()

      for {pattern, call} <- [
            {~r/Did you mean :queue\?/, fn -> PaymentQueue.enqueue(1, queu: queue) end},
            {~r/unknown option :ack for PaymentQueue.enqueue/, fn -> PaymentQueue.enqueue(1, ack: 1) end},
            {~r/invalid value for :timeout: 0/, fn -> PaymentQueue.enqueue(1, timeout: 0) end},
            {~r/invalid value for :delay: -1/, fn -> PaymentQueue.enqueue(1, queue: queue, delay: -1) end},
            {~r/invalid value for :queue: "q"/, fn -> PaymentQueue.enqueue(1, queue: "q") end},
            {~r/invalid value for :priority: 1; allowed: 0\.\.0,.*priorities: 1/,
             fn -> PaymentQueue.enqueue(1, queue: queue, priority: 1) end},
            {~r/invalid value for :priority: 16; allowed: an integer in 0\.\.15/,
             fn -> PaymentQueue.enqueue(1, queue: queue, priority: 16) end},
            {~r/invalid value for :partition: "kkk.*; allowed: a term of up to 1024 bytes.*, and not 2010/,
             fn -> PaymentQueue.enqueue(1, queue: queue, partition: String.duplicate("k", 2_004)) end},
            {~r/invalid value for :partition: "k"; allowed: a function of the payload/,
             fn -> PaymentQueue.enqueue_many([1], queue: queue, partition: "k") end},
            {~r/unknown option :unique_for/, fn -> PaymentQueue.enqueue(1, queue: queue, unique_for: 9) end},
            {~r/milliseconds in 0..4294967295, or :infinity/, fn -> PaymentQueue.take(queue: queue, timeout: -1) end},
            {~r/invalid value for :timeout/, fn -> PaymentQueue.take(queue: queue, timeout: 4_294_967_296) end},
            {~r/invalid value for :ack/, fn -> PaymentQueue.take(queue: queue, ack: :none) end},
            {~r/invalid value for :n: -1/, fn -> PaymentQueue.take_many(-1, queue: queue) end},
            {~r/invalid value for :n/, fn -> PaymentQueue.peek(1.5, queue) end},
            {~r/Did you mean :timeout\?/, fn -> PaymentQueue.dequeue(timout: 1) end},
            {~r/invalid value for :timeout/, fn -> PaymentQueue.drain(queue, timeout: :never) end},
            {~r/invalid value for :workers: -1/, fn -> PaymentQueue.scale(queue, -1) end},
            {~r/invalid value for :n: :most/, fn -> PaymentQueue.requeue_dead(queue, :most) end},
            {~r/invalid value for :queue/, fn -> PaymentQueue.stats(nil) end},
            {~r/invalid value for :queue/, fn -> PaymentQueue.stats("q") end}
          ] do
        assert_raise ArgumentError, pattern, call
      end

      assert PaymentQueue.stats(queue) == %{queue_size: 0, in_flight: 0}
    end
  end

  describe "configure" do
    test "changes limits of a live queue and keeps the others" do
      queue = queue!(capacity: 3, max_attempts: 7)
      {:ok, 3} = PaymentQueue.enqueue_many([1, 2, 3], queue: queue)
      assert PaymentQueue.configure(queue, capacity: 1) == :ok
      assert %{capacity: 1, max_attempts: 7, queue_size: 3} = PaymentQueue.info(queue)
      assert PaymentQueue.enqueue(4, queue: queue) == {:error, :queue_full}
      assert [{1, _}, {2, _}] = PaymentQueue.take_many(2, queue: queue)
      assert PaymentQueue.enqueue(4, queue: queue) == {:error, :queue_full}
      assert {:ok, 3, _} = PaymentQueue.take(queue: queue)
      assert PaymentQueue.enqueue(4, queue: queue) == :ok
      assert PaymentQueue.configure(queue, capacity: 2, max_payload_bytes: 5) == :ok
      assert PaymentQueue.enqueue("012345", queue: queue) == {:error, :payload_too_large}
      assert PaymentQueue.enqueue("01234", queue: queue) == :ok
      assert PaymentQueue.configure(queue, []) == :ok
    end

    test "other options cannot change on a live queue" do
      queue = queue!()

      for option <- [handler: Handler, name: :other, batch: [size: 2], durability: :none, priorities: 1] do
        error = assert_raise ArgumentError, fn -> PaymentQueue.configure(queue, [option]) end
        assert error.message =~ "#{inspect(elem(option, 0))} cannot change on a live queue"
      end

      assert_raise ArgumentError, ~r/PaymentQueue.scale\/2/, fn -> PaymentQueue.configure(queue, concurrency: 3) end
      assert_raise ArgumentError, ~r/Did you mean :capacity\?/, fn -> PaymentQueue.configure(queue, capcity: 3) end

      assert_raise ArgumentError, ~r/at most :max_bytes/, fn ->
        PaymentQueue.configure(queue, max_bytes: 10, max_payload_bytes: 11)
      end

      assert_raise ArgumentError, ~r/invalid value/, fn -> PaymentQueue.configure(queue, capacity: 0) end
    end

    test "a smaller max_bytes lowers max_payload_bytes with it" do
      queue = queue!(max_bytes: 1_000)
      assert PaymentQueue.configure(queue, max_bytes: 10) == :ok
      assert %{max_bytes: 10, max_payload_bytes: 10} = PaymentQueue.info(queue)
    end
  end

  test "child_spec tells queues apart" do
    assert %{id: {PaymentQueue, :default}, type: :supervisor} = PaymentQueue.child_spec([])
    assert %{id: {PaymentQueue, :refunds}} = PaymentQueue.child_spec(name: :refunds)
  end
end
