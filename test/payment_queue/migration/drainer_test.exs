defmodule PaymentQueue.Migration.DrainerTest do
  # What waits in the old queue gets into the new one, and whatever goes wrong on the way, it is on one of the two sides.
  # Not async: old queues that stop erase persistent terms, for which the VM looks through all processes, and other tests
  # count what idle ones do.
  use PaymentQueue.QueueCase

  alias PaymentQueue.Baseline.{EtsQueue, GenServerQueue}
  alias PaymentQueue.{Migration, OldQueue}

  defp migration!(legacy, opts \\ []) do
    {queue_opts, opts} = Keyword.split(opts, [:capacity, :max_payload_bytes])
    name = new_name()
    queue = queue!(queue_opts)
    start_supervised!({Migration, [name: name, queue: queue, legacy: legacy, mode: :native] ++ opts}, id: name)
    %{name: name, queue: queue, legacy: legacy}
  end

  defp drain(%{name: name}, opts \\ []), do: Task.async(fn -> Migration.drain_legacy([name: name] ++ opts) end)

  defp drainer(name), do: Migration.Supervisor.drainer(name)
  defp in_hand(name), do: PaymentQueue.Migration.InHand.count(PaymentQueue.Migration.Route.fetch!(name))

  # Until the drain has an item in hand that the new queue, of capacity 1, refuses.
  defp with_item_in_hand(item) do
    legacy = OldQueue.asking!()
    migration = migration!(legacy, capacity: 1)
    drain = drain(migration)
    assert_receive {:legacy, pid, :take}
    :ok = PaymentQueue.enqueue(:other, queue: migration.queue)
    OldQueue.answer(pid, {:ok, item})
    eventually(fn -> in_hand(migration.name) == 1 and PaymentQueue.info(migration.queue).rejected_full == 1 end)
    Map.merge(migration, %{drain: drain, mover: pid})
  end

  describe "draining" do
    for kind <- [GenServerQueue, EtsQueue] do
      test "moves everything, oldest first, and can be repeated: #{inspect(kind)}" do
        migration = migration!(OldQueue.baseline!(unquote(kind)))
        assert Migration.drain_legacy(name: migration.name) == {:ok, 0}
        for n <- 1..1_000, do: :ok = migration.legacy.enqueue(n)
        assert Migration.drain_legacy(name: migration.name) == {:ok, 1_000}
        assert migration.legacy.stats().queue_size == 0
        assert take_all(migration.queue) == Enum.to_list(1..1_000)
        assert Migration.drain_legacy(name: migration.name) == {:ok, 0}
        assert_conserved(migration.queue)
      end
    end

    test "leaves new payments their room: it takes nothing while max_depth items wait" do
      migration = migration!(OldQueue.baseline!(), capacity: 100)
      for n <- 1..60, do: :ok = migration.legacy.enqueue(n)
      drain = drain(migration)
      eventually(fn -> PaymentQueue.stats(migration.queue).queue_size == 50 end)
      let_pass(20)
      assert migration.legacy.stats().queue_size == 10
      for n <- 1..50, do: :ok = PaymentQueue.enqueue({:new, n}, queue: migration.queue)
      assert {:ok, 1, _} = PaymentQueue.dequeue(queue: migration.queue)
      let_pass(20)
      assert migration.legacy.stats().queue_size == 10
      rest = take_all(migration.queue)
      assert Task.await(drain) == {:ok, 60}
      assert in_hand(migration.name) == 0
      assert Enum.filter(rest ++ take_all(migration.queue), &is_integer/1) == Enum.to_list(2..60)
    end

    test "max_depth: says how many" do
      migration = migration!(OldQueue.baseline!())
      for n <- 1..10, do: :ok = migration.legacy.enqueue(n)
      assert Migration.drain_legacy(name: migration.name, max_depth: 3, timeout: 50) == {:error, :timeout, 3}
      assert migration.legacy.stats().queue_size == 7

      for {bad, message} <- [
            max_depth: ~r/invalid value for :max_depth/,
            timeout: ~r/invalid value for :timeout/,
            timout: ~r/unknown keys \[:timout\]/
          ] do
        assert_raise ArgumentError, message, fn -> Migration.drain_legacy([{:name, migration.name}, {bad, -1}]) end
      end
    end

    test "needs take/0 or dequeue/0" do
      migration = migration!(OldQueue.asking!([:enqueue, :stats]))
      assert Migration.drain_legacy(name: migration.name) == {:error, :no_take, 0}
      assert migration!(DocsDequeueOnly).name |> then(&Migration.drain_legacy(name: &1)) == {:ok, 0}
    end

    defmodule Elixir.DocsDequeueOnly do
      def enqueue(_), do: :ok
      def stats, do: 0
      def dequeue, do: :empty
    end

    test "all who call get the one drain's answer, and it goes on without them" do
      migration = migration!(OldQueue.asking!())
      [first, second, third] = drains = for _ <- 1..3, do: drain(migration)
      assert_receive {:legacy, pid, :take}
      eventually(fn -> length(:sys.get_state(drainer(migration.name)).callers) == length(drains) end)
      OldQueue.answer(pid, {:ok, 1})
      Task.shutdown(first, :brutal_kill)
      assert_receive {:legacy, ^pid, :take}
      OldQueue.answer(pid, :empty)
      assert Task.await_many([second, third]) == [{:ok, 1}, {:ok, 1}]
      assert take_all(migration.queue) == [1]
    end

    test "a drain that waits for room does not spin, and the report shows what it has in hand" do
      %{name: name, mover: mover} = migration = with_item_in_hand(:pay)
      assert growth([mover], 200) < 100_000
      report = Task.async(fn -> Migration.report(name: name) end)
      assert_receive {:legacy, pid, :stats}
      OldQueue.answer(pid, 0)
      assert Task.await(report).in_hand == 1
      assert {:ok, :other, _} = PaymentQueue.dequeue(queue: migration.queue)
      assert {:ok, :pay, _} = PaymentQueue.dequeue(queue: migration.queue, timeout: 5_000)
      assert_receive {:legacy, ^mover, :take}
      OldQueue.answer(mover, :empty)
      assert Task.await(migration.drain) == {:ok, 1}
    end
  end

  describe "a rollback" do
    test "no drain begins while the old queue gets new items" do
      migration = migration!(OldQueue.baseline!())
      :ok = migration.legacy.enqueue(:pay)

      for mode <- [:legacy, :shadow, {:percent, 99.99}] do
        :ok = Migration.set_mode(mode, name: migration.name)
        assert Migration.drain_legacy(name: migration.name) == {:error, :legacy_in_use, 0}
      end

      assert migration.legacy.stats().queue_size == 1
      :ok = Migration.set_mode({:percent, 100}, name: migration.name)
      assert Migration.drain_legacy(name: migration.name) == {:ok, 1}
    end

    test "stops the drain; what it has moved stays, the rest is in the old queue" do
      migration = migration!(OldQueue.baseline!(), capacity: 20)
      for n <- 1..30, do: :ok = migration.legacy.enqueue(n)
      drain = drain(migration)
      eventually(fn -> PaymentQueue.stats(migration.queue).queue_size == 10 end)
      :ok = Migration.set_mode(:legacy, name: migration.name)
      assert Task.await(drain) == {:error, :legacy_in_use, 10}
      assert take_all(migration.queue) == Enum.to_list(1..10)
      assert for(_ <- 1..20, {:ok, n, _} <- [migration.legacy.take()], do: n) == Enum.to_list(11..30)
    end

    test "gives the item in hand back to the old queue" do
      migration = with_item_in_hand(:pay)
      :ok = Migration.set_mode(:legacy, name: migration.name)
      assert_receive {:legacy, pid, {:enqueue, :pay}}
      OldQueue.answer(pid, :ok)
      assert Task.await(migration.drain) == {:error, :legacy_in_use, 0}
      assert in_hand(migration.name) == 0
    end
  end

  describe "the item in hand" do
    test "gets in as soon as there is room, once" do
      migration = with_item_in_hand(:pay)
      assert {:ok, :other, _} = PaymentQueue.dequeue(queue: migration.queue)
      assert {:ok, :pay, _} = PaymentQueue.dequeue(queue: migration.queue, timeout: 5_000)
      assert_receive {:legacy, pid, :take}
      OldQueue.answer(pid, :empty)
      assert Task.await(migration.drain) == {:ok, 1}
      assert in_hand(migration.name) == 0
      assert take_all(migration.queue) == []
    end

    for who <- [:drainer, :mover] do
      test "survives a kill of the #{who}: it is put back" do
        %{name: name} = migration = with_item_in_hand(:pay)
        kill(if unquote(who) == :mover, do: migration.mover, else: drainer(name))
        assert_receive {:legacy, pid, {:enqueue, :pay}}
        OldQueue.answer(pid, :ok)
        assert Task.await(migration.drain) == {:error, :stopped, 0}
        assert drainer(name) == pid
        eventually(fn -> in_hand(name) == 0 end)
        refute_received {:legacy, _, {:enqueue, _}}
        assert take_all(migration.queue) == [:other]
      end
    end

    test "survives even a kill in the moment of putting it back" do
      %{name: name} = migration = with_item_in_hand(:pay)
      kill(drainer(name))
      assert Task.await(migration.drain) == {:error, :stopped, 0}
      assert_receive {:legacy, second, {:enqueue, :pay}}
      kill(second)
      assert_receive {:legacy, third, {:enqueue, :pay}}
      assert in_hand(name) == 1
      OldQueue.answer(third, :ok)
      eventually(fn -> in_hand(name) == 0 end)
    end

    test "a kill of the drainer, or of all there is, does not reach what the old queue is handing out" do
      for victim <- [&drainer/1, &Process.whereis(Migration.Supervisor.name(&1))] do
        %{name: name, queue: queue} = migration = migration!(OldQueue.asking!())
        drain = drain(migration)
        assert_receive {:legacy, mover, :take}
        kill(victim.(name))
        OldQueue.answer(mover, {:ok, :pay})
        assert Task.await(drain) in [{:error, :stopped, 0}, {:error, :stopped, 1}]
        assert {:ok, :pay, _} = PaymentQueue.dequeue(queue: queue, timeout: 5_000)
        eventually(fn -> not Process.alive?(mover) end)
        refute_received {:legacy, _, _}
      end
    end

    test "is inherited when it gets there after the next drainer has started" do
      %{name: name, queue: queue} = migration = migration!(OldQueue.asking!(), capacity: 1)
      drain = drain(migration)
      assert_receive {:legacy, mover, :take}
      first = drainer(name)
      kill(first)
      assert Task.await(drain) == {:error, :stopped, 0}
      eventually(fn -> drainer(name) not in [nil, first] end)
      # By then it has looked and found nothing.
      assert :sys.get_state(drainer(name)).mover == nil
      :ok = PaymentQueue.enqueue(:other, queue: queue)
      OldQueue.answer(mover, {:ok, :pay})
      assert_receive {:legacy, pid, {:enqueue, :pay}}
      OldQueue.answer(pid, :ok)
      eventually(fn -> in_hand(name) == 0 end)
      assert take_all(queue) == [:other]
    end

    test "a kill of all there is costs the application above one restart, not itself" do
      legacy = OldQueue.asking!()
      name = new_name()
      # Supervised as the guide says, with the intensity that a supervisor has by default.
      options = [name: name, queue: queue!(), legacy: legacy, mode: :shadow]
      start = {Supervisor, :start_link, [[{Migration, options}], [strategy: :one_for_one]]}
      app = start_supervised!(%{id: :app, start: start, type: :supervisor, restart: :temporary})
      tree = fn -> Process.whereis(Migration.Supervisor.name(name)) end
      shadow = :"#{name}.migration.shadow"
      shadow_tree = Process.whereis(PaymentQueue.Supervisor.name(shadow))
      first = tree.()
      :ok = Migration.set_mode(:native, name: name)
      drain = drain(%{name: name})
      assert_receive {:legacy, mover, :take}
      :ok = Migration.set_mode(:shadow, name: name)
      # The shadow queue takes its time to stop.
      true = :erlang.suspend_process(shadow_tree)
      kill(first)
      let_pass(20)
      true = :erlang.resume_process(shadow_tree)
      eventually(fn -> tree.() not in [nil, first] and is_pid(drainer(name)) end)
      assert Process.alive?(app)
      # The copies have a worker again, and the drain of before goes on to its end.
      :ok = PaymentQueue.enqueue(:copy, queue: shadow)
      eventually(fn -> PaymentQueue.info(shadow).settled == 1 end)
      OldQueue.answer(mover, :empty)
      assert Task.await(drain) == {:ok, 0}
    end

    test "goes back when the migration is stopped; what could not is not left lying" do
      %{name: name, queue: queue} = migration = with_item_in_hand(:pay)
      stop = Task.async(fn -> Supervisor.stop(Migration.Supervisor.name(name), :shutdown) end)
      assert_receive {:legacy, pid, {:enqueue, :pay}}
      OldQueue.answer(pid, {:error, :down})
      assert Task.await(stop) == :ok
      assert Task.await(migration.drain) == {:error, :stopped, 0}
      # The test's supervisor starts it again, and the old queue still does not want the item.
      assert_receive {:legacy, pid, {:enqueue, :pay}}
      OldQueue.answer(pid, fn -> raise "still down" end)

      # Nobody drains, and yet it does not stay in hand: as soon as one of the two has room, it is there.
      assert_receive {:legacy, ^pid, {:enqueue, :pay}}
      assert {:ok, :other, _} = PaymentQueue.dequeue(queue: queue)
      OldQueue.answer(pid, {:error, :still_down})
      assert {:ok, :pay, _} = PaymentQueue.dequeue(queue: queue, timeout: 5_000)
      eventually(fn -> in_hand(name) == 0 end)
    end

    test "a shutdown while the old queue is handing one out waits for it" do
      %{name: name, queue: queue} = migration = migration!(OldQueue.asking!())
      drain = drain(migration)
      assert_receive {:legacy, pid, :take}
      stop = Task.async(fn -> Supervisor.stop(Migration.Supervisor.name(name), :shutdown) end)
      eventually(fn -> :stop in elem(Process.info(pid, :messages), 1) end)
      OldQueue.answer(pid, {:ok, :pay})
      assert Task.await(stop) == :ok
      assert Task.await(drain) == {:error, :stopped, 1}
      assert take_all(queue) == [:pay]
    end
  end

  describe "a storm of kills" do
    test "costs nothing: what is between the two queues arrives all the same" do
      Process.flag(:trap_exit, true)
      %{name: name, queue: queue, legacy: legacy} = migration!(OldQueue.baseline!(), capacity: 50)
      :ok = Supervisor.terminate_child(Migration.Supervisor.name(name), Migration.Drainer)
      for n <- 1..20_000, do: :ok = legacy.enqueue(n)
      consumer = Task.async(fn -> consume(queue, []) end)
      kills = storm(name, legacy, 0)

      {:ok, _} = Supervisor.restart_child(Migration.Supervisor.name(name), Migration.Drainer)
      assert {:ok, _} = Migration.drain_legacy(name: name)
      # The last killed drain's mover may have brought its item to an end after the old queue was empty.
      eventually(fn -> PaymentQueue.info(queue).settled >= 20_000 end)
      :ok = PaymentQueue.enqueue(:enough, queue: queue)
      counts = consumer |> Task.await() |> Enum.frequencies()

      assert kills > 0
      assert map_size(counts) == 20_000
      assert Enum.all?(counts, fn {_, times} -> times == 1 end)
      assert in_hand(name) == 0
    end

    # Each drain is killed after it has moved a hundred items or so.
    defp storm(name, legacy, kills) do
      left = legacy.stats().queue_size

      if left < 100 do
        kills
      else
        {:ok, pid} = Migration.Drainer.start_link(PaymentQueue.Migration.Route.fetch!(name))
        drain = Task.async(fn -> Migration.Drainer.drain(pid, 25, :infinity) end)
        wait_below(legacy, left - 100)
        kill(pid)
        # Unless it was done before the kill came.
        answer = Task.await(drain)
        assert answer == {:error, :stopped, 0} or match?({:ok, _}, answer)
        storm(name, legacy, kills + 1)
      end
    end

    # Closely, so that the kill hits the drain at work.
    defp wait_below(legacy, n), do: if(legacy.stats().queue_size >= n, do: wait_below(legacy, n))

    defp consume(queue, taken) do
      case PaymentQueue.dequeue(queue: queue, timeout: 10_000) do
        {:ok, :enough, _} -> taken
        {:ok, n, _} -> consume(queue, [n | taken])
      end
    end
  end

  describe "what cannot be moved" do
    test "a closed queue: the item is back in the old one" do
      migration = migration!(OldQueue.baseline!())
      :ok = migration.legacy.enqueue(:pay)
      :ok = PaymentQueue.drain(migration.queue)
      assert Migration.drain_legacy(name: migration.name) == {:error, :queue_closed, 0}
      assert migration.legacy.stats().queue_size == 1
      assert in_hand(migration.name) == 0
    end

    test "a payload that is too large: the item is back, those before it have moved" do
      migration = migration!(OldQueue.baseline!(), max_payload_bytes: 100)
      large = :binary.copy("x", 101)
      for payload <- [1, large, 3], do: :ok = migration.legacy.enqueue(payload)
      assert Migration.drain_legacy(name: migration.name) == {:error, :payload_too_large, 1}
      assert migration.legacy.stats().queue_size == 2
      assert take_all(migration.queue) == [1]
      :ok = PaymentQueue.configure(migration.queue, max_payload_bytes: 200)
      assert Migration.drain_legacy(name: migration.name) == {:ok, 2}
      assert take_all(migration.queue) == [3, large]
    end

    for {name, answer, reason} <- [
          {"raises", quote(do: fn -> raise "no" end), quote(do: {:error, %RuntimeError{message: "no"}})},
          {"exits", quote(do: fn -> exit(:noproc) end), quote(do: {:exit, :noproc})},
          {"says what nobody knows", quote(do: {:payment, 7}), quote(do: {:bad_return, {:payment, 7}})}
        ] do
      test "an old queue that #{name}" do
        migration = migration!(OldQueue.asking!())
        drain = drain(migration)
        assert_receive {:legacy, pid, :take}
        OldQueue.answer(pid, {:ok, 1})
        assert_receive {:legacy, ^pid, :take}
        OldQueue.answer(pid, unquote(answer))
        assert {:error, unquote(reason), 1} = Task.await(drain)
        assert take_all(migration.queue) == [1]
      end
    end

    test "an answer that nobody knows is in the log, for it may be an item and its caller gone" do
      migration = migration!(OldQueue.asking!())

      log =
        ExUnit.CaptureLog.capture_log(fn ->
          drain = drain(migration)
          assert_receive {:legacy, pid, :take}
          Task.shutdown(drain, :brutal_kill)
          drainer = drainer(migration.name)
          OldQueue.answer(pid, {:value, %{id: "p7"}})
          eventually(fn -> not Process.alive?(pid) and :sys.get_state(drainer).mover == nil end)
        end)

      assert log =~ ~s(.take/0 returned {:value, %{id: "p7"}}, which is neither an item nor :empty)
    end
  end
end
