defmodule PaymentQueue.Laws.ScheduleTest do
  # No NIF call above 1 ms, whatever the payload.
  #
  # The VM reports each time that a process kept its scheduler for 1 ms or more. On a busy machine that also happens to
  # the innocent, when the operating system takes the core away meanwhile; so each workload runs many times in a short
  # process of its own, and most of the runs must be clean, with two more tries for a machine that is very busy. A call
  # that is too long makes each of its runs dirty, however often it is tried.
  use PaymentQueue.QueueCase, async: false

  @runs 15

  setup do
    {:ok, queue: queue!(capacity: 100_000, max_payload_bytes: 4_000_000, max_attempts: 1_000)}
  end

  setup do
    previous = :erlang.system_monitor(self(), long_schedule: 1)
    on_exit(fn -> :erlang.system_monitor(previous) end)
  end

  # Built once, outside of what is measured. Mostly off the heap, since a collection of a large heap is a long schedule
  # of its own.
  @mib 1_048_576
  defp payloads do
    [
      binary: :binary.copy("x", @mib),
      wrapped: %{body: :binary.copy("x", @mib)},
      parts: List.duplicate(:binary.copy("x", 65_536), 16),
      just_short: :binary.copy("x", 65_535),
      small_parts: for(n <- 1..2_000, do: {n, :binary.copy("x", 20)}),
      deep: Enum.reduce(1..5_000, [], fn n, acc -> {n, [acc]} end)
    ]
  end

  defp assert_short(name, prepare, work) do
    assert Enum.any?(1..3, fn _ -> clean(prepare, work) > div(@runs, 2) end), "#{name} has long schedules"
  end

  # How many runs had no long schedule.
  defp clean(prepare, work) do
    Enum.count(1..@runs, fn _ ->
      {pid, monitor} =
        :erlang.spawn_opt(
          fn ->
            prepared = prepare.()
            :erlang.garbage_collect()
            receive do: (:go -> work.(prepared))
          end,
          [:monitor, min_heap_size: 1_000_000]
        )

      eventually(fn -> Process.info(pid, :status) == {:status, :waiting} end)
      flush()
      send(pid, :go)
      assert_receive {:DOWN, ^monitor, _, _, :normal}
      not long?(pid)
    end)
  end

  defp flush do
    receive do
      {:monitor, _, :long_schedule, _} -> flush()
    after
      0 -> :ok
    end
  end

  defp long?(pid) do
    receive do
      {:monitor, ^pid, :long_schedule, _} -> true
    after
      10 -> false
    end
  end

  test "the measurement finds a call that is too long" do
    # One of the few functions of the VM that don't yield, however long the list.
    assert clean(fn -> Enum.to_list(1..2_000_000) end, &:erlang.list_to_tuple/1) <= div(@runs, 2)
  end

  test "enqueue, take, settle: large and many-part payloads", %{queue: queue} do
    for {name, payload} <- payloads() do
      enqueue = fn -> :ok = PaymentQueue.enqueue(payload, queue: queue) end
      assert_short("enqueue of #{name}", fn -> nil end, fn nil -> enqueue.() end)
      {:ok, _} = PaymentQueue.purge(queue)

      assert_short("take and ack of #{name}", enqueue, fn :ok ->
        {:ok, _, lease} = PaymentQueue.take(queue: queue)
        :ok = PaymentQueue.ack(lease)
      end)

      assert PaymentQueue.stats(queue) == %{queue_size: 0, in_flight: 0}
    end
  end

  test "passing by very many items that wait for their partition", %{queue: queue} do
    long = :binary.copy("x", 1_900)

    # One free item behind each hundred that wait.
    prepare = fn ->
      {:ok, _} = PaymentQueue.purge(queue)
      :ok = PaymentQueue.enqueue(:head, queue: queue, partition: :a)
      {:ok, :head, lease} = PaymentQueue.take(queue: queue)

      for n <- 1..5_000 do
        if rem(n, 100) == 0,
          do: :ok = PaymentQueue.enqueue(n, queue: queue),
          else: :ok = PaymentQueue.enqueue(long, queue: queue, partition: :a)
      end

      lease
    end

    assert_short("take_many", prepare, fn lease ->
      assert length(PaymentQueue.Native.take_many(queue, 256)) in 1..4
      :ok = PaymentQueue.ack(lease)
    end)
  end

  test "batches", %{queue: queue} do
    payments = for n <- 1..2_000, do: %{correlation_id: :binary.copy("x", 36), amount: n}
    enqueue = fn -> {:ok, 2_000} = PaymentQueue.enqueue_many(payments, queue: queue) end

    assert_short("enqueue_many", fn -> nil end, fn nil -> enqueue.() end)
    {:ok, _} = PaymentQueue.purge(queue)
    assert_short("take_many", enqueue, fn _ -> 2_000 = length(PaymentQueue.take_many(2_000, queue: queue)) end)
    # Those takers died with all they held.
    eventually(fn -> PaymentQueue.stats(queue).in_flight == 0 end)
    {:ok, _} = PaymentQueue.purge(queue)
    assert_short("purge", enqueue, fn _ -> {:ok, 2_000} = PaymentQueue.purge(queue) end)
    assert_conserved(queue)
  end

  test "the death of a holder of very many items", %{queue: queue} do
    {:ok, 30_000} = PaymentQueue.enqueue_many(Enum.to_list(1..30_000), queue: queue)

    take = fn ->
      eventually(fn -> PaymentQueue.stats(queue).in_flight == 0 end)
      30_000 = length(PaymentQueue.take_many(30_000, queue: queue))
    end

    assert_short("death", take, fn _ -> :ok end)
    eventually(fn -> PaymentQueue.stats(queue).in_flight == 0 end)
    assert_conserved(queue)
  end
end
