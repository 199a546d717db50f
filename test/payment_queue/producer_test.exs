defmodule PaymentQueue.ProducerTest do
  # What needs neither Broadway nor GenStage. The rest is in test/integration.
  use PaymentQueue.QueueCase, async: true

  alias PaymentQueue.Options
  alias PaymentQueue.Producer
  alias PaymentQueue.Producer.{Acknowledger, Holder}

  describe "options" do
    test "have defaults" do
      assert %{queue: :default, on_success: :ack, on_failure: :retry, backoff: nil} = Options.producer!([])
    end

    test "that are unknown or out of range are refused with what is allowed" do
      for {opts, message} <- [
            {[qeue: :payments], ~r/unknown option :qeue for PaymentQueue.Producer. Did you mean :queue\?/},
            {[queue: "payments"], ~r/invalid value for :queue: "payments"; allowed: an atom/},
            {[on_failure: :discard], ~r/invalid value for :on_failure: :discard; allowed: :retry, {:retry, ms}/},
            {[on_failure: {:retry, -1}], ~r/invalid value for :on_failure/},
            {[on_success: :retry], ~r/invalid value for :on_success: :retry; allowed: :ack or :noop/},
            {[backoff: :fast], ~r/invalid value for :backoff/},
            {:payments, ~r/as a keyword list, got: :payments/}
          ] do
        assert_raise ArgumentError, message, fn -> Options.producer!(opts) end
        assert_raise ArgumentError, message, fn -> Producer.prepare_for_start(__MODULE__, broadway(opts)) end
      end
    end

    test "of one message replace what they name" do
      {_, queue, data} = Acknowledger.new(%{Options.producer!([]) | backoff: 5}, {1, 2, 3})
      assert queue == :default
      assert {:ok, changed} = Acknowledger.configure(queue, data, on_failure: {:retry, 7})
      assert changed == %{data | on_failure: {:retry, 7}}

      assert_raise ArgumentError, ~r/unknown option :on_fail for Broadway.Message.configure_ack\/2. Did you mean/, fn ->
        Acknowledger.configure(queue, data, on_fail: :reject)
      end
    end
  end

  defp broadway(opts), do: [name: :pipeline, max_restarts: 3, producer: [module: {Producer, opts}]]

  test "the pipeline gets a tripwire and a holder before its producers, and may restart twice as often" do
    assert {[{Producer.Tripwire, holder}, {Holder, holder_opts}], options} =
             Producer.prepare_for_start(__MODULE__, broadway(queue: :payments))

    assert holder == :"pipeline.Broadway.PaymentQueue"
    assert holder_opts == [queue: :payments, name: holder]
    assert options[:max_restarts] == 6
    assert options[:producer][:module] == {Producer, holder: holder, queue: :payments}
  end

  defmodule Named do
    def process_name(pipeline, base), do: {:via, Registry, {pipeline, base}}
  end

  test "the holder is named as the pipeline names its processes" do
    assert {[{Producer.Tripwire, {:via, Registry, {:pipeline, "PaymentQueue"}}} | _], _} =
             Producer.prepare_for_start(Named, broadway([]))
  end

  describe "the holder" do
    setup do
      queue = queue!()
      %{queue: queue, holder: start_supervised!({Holder, queue: queue, owner: self()})}
    end

    test "takes what is demanded and no more", %{queue: queue, holder: holder} do
      {:ok, 5} = PaymentQueue.enqueue_many(Enum.to_list(1..5), queue: queue)
      Holder.demand(holder, 2)
      assert_receive {Holder, [{1, _}, {2, _}]}
      assert PaymentQueue.stats(queue) == %{queue_size: 3, in_flight: 2}
      Holder.demand(holder, 4)
      assert_receive {Holder, [{3, _}, {4, _}, {5, _}]}
      eventually(fn -> PaymentQueue.info(queue).parked == 1 end)
      {:ok, 2} = PaymentQueue.enqueue_many([6, 7], queue: queue)
      assert_receive {Holder, [{6, lease}]}
      assert PaymentQueue.stats(queue) == %{queue_size: 1, in_flight: 6}
      assert PaymentQueue.attempt(lease) == 1
    end

    test "takes nothing for one who left, not even what is on its way", %{queue: queue, holder: holder} do
      for _ <- 1..100 do
        Holder.demand(holder, 1)
        eventually(fn -> PaymentQueue.info(queue).parked == 1 end)
        [_, :ok] = together([fn -> PaymentQueue.enqueue(1, queue: queue) end, fn -> Holder.leave(holder) end])
        Holder.leave(holder)

        receive do
          {Holder, [{1, lease}]} -> :ok = PaymentQueue.ack(lease)
        after
          0 ->
            eventually(fn -> PaymentQueue.stats(queue) == %{queue_size: 1, in_flight: 0} end)
            assert {:ok, 1, lease} = PaymentQueue.take(queue: queue)
            assert PaymentQueue.attempt(lease) == 1
            :ok = PaymentQueue.ack(lease)
        end
      end

      assert_conserved(queue)
    end

    test "ends with its owner, and gives back what was not settled", %{queue: queue} do
      owner = actor()
      {:ok, holder} = Actor.run(owner, fn -> Holder.start_link(queue: queue, owner: owner) end)
      :ok = PaymentQueue.enqueue(1, queue: queue)
      Actor.run(owner, fn -> Holder.demand(holder, 1) end)
      eventually(fn -> PaymentQueue.stats(queue).in_flight == 1 end)
      kill(owner)
      eventually(fn -> PaymentQueue.stats(queue) == %{queue_size: 1, in_flight: 0} end)
      refute Process.alive?(holder)
    end

    test "of a queue that never was says so" do
      Process.flag(:trap_exit, true)
      assert {:error, {%ArgumentError{message: message}, _}} = Holder.start_link(queue: new_name(), owner: self())
      assert message =~ "was never started"
    end
  end
end
