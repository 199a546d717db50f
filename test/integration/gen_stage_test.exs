defmodule PaymentQueue.GenStageTest do
  # With the real GenStage 1.x, without Broadway.
  use PaymentQueue.QueueCase, async: true

  @moduletag :gen_stage
  @compile {:no_warn_undefined, GenStage}

  defmodule Consumer do
    @moduledoc false
    # Written against the callbacks, as there may be no GenStage to `use`.

    def init({producer, handle, options}),
      do: {:consumer, handle, subscribe_to: [{producer, options}]}

    def handle_events(events, _from, handle) do
      Enum.each(events, handle)
      {:noreply, [], handle}
    end
  end

  defp consumer!(producer, handle, options) do
    start = {GenStage, :start_link, [Consumer, {producer, handle, options}]}
    start_supervised!(%{id: make_ref(), start: start, restart: :temporary})
  end

  defp producer!(queue, id \\ make_ref()),
    do: start_supervised!(%{id: id, start: {PaymentQueue.Producer, :start_link, [[queue: queue]]}, restart: :temporary})

  defp tell_and_ack(test) do
    fn {payload, lease} ->
      :ok = PaymentQueue.ack(lease)
      send(test, {:handled, payload})
    end
  end

  test "a consumer gets payloads with their leases, in order, by what it demands" do
    queue = queue!()
    {:ok, 1_000} = PaymentQueue.enqueue_many(Enum.to_list(1..1_000), queue: queue)
    consumer!(producer!(queue), tell_and_ack(self()), max_demand: 10)
    for n <- 1..1_000, do: assert_receive({:handled, ^n})
    assert PaymentQueue.info(queue).settled == 1_000
    # Parked by now, and woken by the enqueue.
    :ok = PaymentQueue.enqueue(:late, queue: queue)
    assert_receive {:handled, :late}
    assert_conserved(queue)
  end

  test "a slow consumer holds no more than it demanded" do
    queue = queue!()
    {:ok, 100} = PaymentQueue.enqueue_many(Enum.to_list(1..100), queue: queue)
    test = self()

    handle = fn {_, lease} ->
      send(test, {:asked, self()})
      receive(do: (:go -> PaymentQueue.ack(lease)))
    end

    consumer!(producer!(queue), handle, max_demand: 4, min_demand: 2)

    for _ <- 1..100 do
      assert_receive {:asked, consumer}
      assert PaymentQueue.stats(queue).in_flight <= 4
      send(consumer, :go)
    end

    eventually(fn -> PaymentQueue.info(queue).settled == 100 end)
  end

  test "items of a consumer that dies come back, by the end of its producer" do
    queue = queue!()
    producer = producer!(queue)
    test = self()

    hold = fn {payload, _} ->
      send(test, {:held, payload})
      receive(do: (:never -> :ok))
    end

    consumer = consumer!(producer, hold, max_demand: 3, min_demand: 0, cancel: :temporary)
    {:ok, 3} = PaymentQueue.enqueue_many([1, 2, 3], queue: queue)
    assert_receive {:held, 1}
    eventually(fn -> PaymentQueue.stats(queue).in_flight == 3 end)

    monitor = Process.monitor(producer)
    kill(consumer)
    assert_receive {:DOWN, ^monitor, _, _, {:shutdown, {:consumer_down, :killed}}}
    eventually(fn -> PaymentQueue.stats(queue) == %{queue_size: 3, in_flight: 0} end)

    consumer!(producer!(queue), tell_and_ack(test), max_demand: 3)
    for n <- 1..3, do: assert_receive({:handled, ^n})
    assert_conserved(queue)
  end

  test "items of a producer that is killed come back" do
    queue = queue!()
    producer = producer!(queue)
    hold = fn _ -> receive(do: (:never -> :ok)) end
    consumer!(producer, hold, max_demand: 3, min_demand: 0, cancel: :temporary)
    {:ok, 3} = PaymentQueue.enqueue_many([1, 2, 3], queue: queue)
    eventually(fn -> PaymentQueue.stats(queue).in_flight == 3 end)
    kill(producer)
    eventually(fn -> PaymentQueue.stats(queue) == %{queue_size: 3, in_flight: 0} end)
  end

  test "the producer starts under a supervisor, by its name" do
    queue = queue!()
    name = :"producer_of_#{queue}"
    pid = start_supervised!({PaymentQueue.Producer, queue: queue, name: name})
    assert Process.whereis(name) == pid
    assert %{id: ^name} = PaymentQueue.Producer.child_spec(name: name)
    assert_raise ArgumentError, ~r/unknown option :capacity/, fn -> PaymentQueue.Producer.start_link(capacity: 1) end
  end
end
