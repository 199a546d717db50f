defmodule PaymentQueue.PanicTest do
  # A panic in the native core, where something is half done: Elixir sees an error, and the queue goes on. In VMs whose native
  # part panics on demand; what each point leaves behind is told in more detail by native/payment_queue_core/tests/panics.rs.
  use PaymentQueue.QueueCase, async: true

  alias PaymentQueue.{ChildVm, FaultyBuild}

  @moduletag timeout: 600_000

  setup_all do: {:ok, ebin: FaultyBuild.ebin()}

  # What the scripts share: `panics` answers whether the call raised as documented, `usable` that nobody can tell by the queue that
  # anything has happened: the numbers add up, and what goes in comes out. `until` waits, with a deadline.
  @prelude """
  panics = fn call ->
    try do
      {:returned, call.()}
    rescue
      error in ErlangError -> error.original == :nif_panicked
    end
  end

  until = fn until, call, tries ->
    value = call.()
    if value == nil or value == false do
      if tries == 0, do: raise("it did not happen")
      receive do after 10 -> until.(until, call, tries - 1) end
    else
      value
    end
  end
  until = fn call -> until.(until, call, 3_000) end

  conserved = fn queue ->
    info = PaymentQueue.info(queue)
    sum = info.settled + info.queue_size + info.in_flight + info.scheduled + info.dead + info.dead_dropped + info.purged
    ^sum = info.enqueued
    info
  end

  usable = fn queue ->
    conserved.(queue)
    {:ok, 3} = PaymentQueue.enqueue_many([:x, "y", %{z: 1}], queue: queue)
    for expected <- [:x, "y", %{z: 1}] do
      {:ok, ^expected, lease} = PaymentQueue.take(queue: queue)
      :ok = PaymentQueue.ack(lease)
    end
    :empty = PaymentQueue.take(queue: queue)
    0 = PaymentQueue.stats(queue).queue_size
    conserved.(queue)
  end
  _ = {panics, until, usable}
  """

  defp run(script, bindings \\ [], %{ebin: ebin}),
    do: ChildVm.run(@prelude <> script <> "\nIO.puts(\"as expected\")", bindings, ebin)

  test "the build under test is one that panics, the tests' own is not", context do
    assert run(
             "true = panics.(fn -> PaymentQueue.start_link(name: :q) && PaymentQueue.enqueue(\"panic at push\", queue: :q) end)",
             context
           ) =~
             "injected at push"

    queue = queue!()
    assert PaymentQueue.enqueue("panic at push", queue: queue) == :ok
  end

  test "while enqueuing: an error, and the item is not in", context do
    said =
      run(
        """
        {:ok, _} = PaymentQueue.start_link(name: :q, capacity: 5)
        for _ <- 1..20 do
          true = panics.(fn -> PaymentQueue.enqueue("panic at push", queue: :q) end)
          true = panics.(fn -> PaymentQueue.enqueue({"panic at push", 1}, queue: :q) end)
          true = panics.(fn -> PaymentQueue.enqueue(String.duplicate("panic at push", 10_000), queue: :q) end)
        end
        0 = usable.(:q).queue_size
        true = panics.(fn -> PaymentQueue.enqueue_many(["a", "b", "panic at push", "d"], queue: :q) end)
        ["a", "b"] = PaymentQueue.peek(9, :q)
        {:ok, "a", _} = PaymentQueue.dequeue(queue: :q)
        {:ok, "b", _} = PaymentQueue.dequeue(queue: :q)
        usable.(:q)
        """,
        context
      )

    assert said =~ "as expected"
  end

  test "while taking: an error, and the next taker gets it; one that always panics is a dead letter", context do
    said =
      run(
        """
        {:ok, _} = PaymentQueue.start_link(name: :q, max_attempts: 3)
        :ok = PaymentQueue.enqueue("panic once at hold", queue: :q)
        true = panics.(fn -> PaymentQueue.take(queue: :q) end)
        1 = conserved.(:q).queue_size
        {:ok, "panic once at hold", lease} = PaymentQueue.take(queue: :q)
        2 = PaymentQueue.attempt(lease)
        :ok = PaymentQueue.ack(lease)
        :ok = PaymentQueue.enqueue("panic at hold", queue: :q)
        for _ <- 1..3, do: true = panics.(fn -> PaymentQueue.take_many(5, queue: :q) end)
        :empty = PaymentQueue.take(queue: :q)
        [%{payload: "panic at hold", attempts: 3}] = PaymentQueue.dead_letters(:q)
        usable.(:q)
        """,
        context
      )

    assert said =~ "as expected"
  end

  test "while settling: an error, and the lease is as it was", context do
    said =
      run(
        """
        {:ok, _} = PaymentQueue.start_link(name: :q)
        for {point, settle} <- [
              {"settle", &PaymentQueue.ack/1},
              {"settle", &PaymentQueue.ack_many([&1])},
              {"settle", &PaymentQueue.take(queue: :q, ack: &1)},
              {"surrender", &PaymentQueue.nack/1},
              {"surrender", &PaymentQueue.reject(&1, :why)}
            ] do
          :ok = PaymentQueue.enqueue({"panic once at " <> point, make_ref(), inspect(settle)}, queue: :q)
          {:ok, _, lease} = PaymentQueue.take(queue: :q)
          true = panics.(fn -> settle.(lease) end)
          1 = conserved.(:q).in_flight
          :ok = PaymentQueue.ack(lease)
        end
        usable.(:q)
        """,
        context
      )

    assert said =~ "as expected"
  end

  test "when a holder dies: its other items come back, and the VM lives", context do
    said =
      run(
        """
        {:ok, _} = PaymentQueue.start_link(name: :q)
        for n <- 1..60 do
          :ok = PaymentQueue.enqueue(if(n in [2, 50], do: "panic at return \#{n}", else: n), queue: :q)
        end
        me = self()
        # A few are inherited on the dying process's scheduler, many on the background thread.
        for n <- [3, 57] do
          holder = spawn(fn -> send(me, length(PaymentQueue.take_many(n, queue: :q))) && receive(do: (:never -> :ok)) end)
          receive do: (^n -> :ok)
          Process.exit(holder, :kill)
          until.(fn -> PaymentQueue.info(:q).consumers == 0 end)
        end
        # Only the two that panicked did not come back: they are dead letters.
        until.(fn -> PaymentQueue.stats(:q) == %{queue_size: 58, in_flight: 0} end)
        %{dead: 2} = PaymentQueue.info(:q)
        58 = length(PaymentQueue.take_many(100, queue: :q))
        PaymentQueue.enqueue(:more, queue: :q)
        {:ok, :more, _} = PaymentQueue.dequeue(queue: :q)
        conserved.(:q)
        """,
        context
      )

    assert said =~ "as expected"
  end

  test "workers: a panic while an item is handed over neither loses the item nor the worker", context do
    said =
      run(
        """
        me = self()
        {:ok, _} = PaymentQueue.start_link(name: :q, concurrency: 1, handler: fn item -> send(me, {:done, item}) && :ok end)
        until.(fn -> PaymentQueue.info(:q).parked == 1 end)
        for n <- 1..5 do
          :ok = PaymentQueue.enqueue("panic once at hold \#{n}", queue: :q)
          receive do: ({:done, "panic once at hold" <> _} -> :ok), after: (30_000 -> raise("not handled"))
        end
        for n <- 1..5 do
          PaymentQueue.enqueue("panic once at settle \#{n}", queue: :q)
          receive do: ({:done, "panic once at settle" <> _} -> :ok), after: (30_000 -> raise("not handled"))
        end
        :ok = PaymentQueue.enqueue(:last, queue: :q)
        receive do: ({:done, :last} -> :ok), after: (30_000 -> raise("not handled"))
        until.(fn -> PaymentQueue.stats(:q) == %{queue_size: 0, in_flight: 0} end)
        conserved.(:q)
        """,
        context
      )

    assert said =~ "as expected"
  end

  test "on the background thread: what comes due after it still does", context do
    said =
      run(
        """
        {:ok, _} = PaymentQueue.start_link(name: :q)
        for {item, delay} <- [{"a", 5}, {"panic at push, when due", 10}, {"b", 15}, {"c", 400}],
            do: :ok = PaymentQueue.enqueue(item, queue: :q, delay: delay)
        for item <- ["a", "b", "c"], do: {:ok, ^item, _} = PaymentQueue.dequeue(queue: :q, timeout: 30_000)
        [%{payload: "panic at push, when due"}] = PaymentQueue.dead_letters(:q)
        usable.(:q)
        """,
        context
      )

    assert said =~ "as expected"
  end

  for durability <- [:sync, :async] do
    test "in the durable committer (#{durability}): an error, and the disk goes on", context do
      dir = scratch_dir()

      said =
        run(
          """
          {:ok, _} = PaymentQueue.start_link(name: :q, dir: bindings[:dir], durability: bindings[:durability])
          refused = fn call ->
            case panics.(call) do
              true -> true
              {:returned, {:error, {:storage, :failed}}} -> true
              {:returned, {:error, {:storage, :failed}, _}} -> true
            end
          end
          for n <- 1..3 do
            refused.(fn -> PaymentQueue.enqueue("panic at push", queue: :q) end)
            :ok = PaymentQueue.enqueue("kept \#{n}", queue: :q)
          end
          refused.(fn -> PaymentQueue.enqueue_many(["panic at push"], queue: :q) end)
          3 = conserved.(:q).queue_size
          # The dying holder's report to the disk is made, too.
          :ok = PaymentQueue.flush(:q)
          %{state: :ok} = PaymentQueue.info(:q).storage
          {:ok, "kept 1", lease} = PaymentQueue.take(queue: :q)
          :ok = PaymentQueue.ack(lease)
          :ok = PaymentQueue.flush(:q)
          conserved.(:q)
          """,
          [dir: dir, durability: unquote(durability)],
          context
        )

      assert said =~ "as expected"

      # What the callers were told is true in the next VM as well.
      said =
        run(
          """
          {:ok, _} = PaymentQueue.start_link(name: :q, dir: bindings[:dir], durability: bindings[:durability])
          IO.inspect(PaymentQueue.peek(10, :q), label: "found")
          """,
          [dir: dir, durability: unquote(durability)],
          context
        )

      assert said =~ ~s(found: ["kept 2", "kept 3"])
    end
  end
end
