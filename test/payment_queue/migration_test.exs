defmodule PaymentQueue.MigrationTest do
  # Not async: old queues that stop erase persistent terms, for which the VM looks through all processes, and other tests
  # count what idle ones do.
  use PaymentQueue.QueueCase

  alias PaymentQueue.Baseline.EtsQueue
  alias PaymentQueue.{Migration, OldQueue}

  defmodule Elixir.DocsOldQueue do
    use Agent

    def start_link(_), do: Agent.start_link(fn -> [] end, name: __MODULE__)
    def enqueue(payload), do: Agent.update(__MODULE__, &(&1 ++ [payload]))
    def stats, do: %{queue_size: Agent.get(__MODULE__, &length/1), in_flight: 0}

    def take do
      Agent.get_and_update(__MODULE__, fn
        [] -> {:empty, []}
        [payload | rest] -> {{:ok, payload}, rest}
      end)
    end
  end

  setup_all do
    start_supervised!(DocsOldQueue)
    :ok
  end

  doctest PaymentQueue.Migration

  defp migration!(legacy, opts \\ []) do
    queue = Keyword.get_lazy(opts, :queue, fn -> queue!() end)
    name = Keyword.get_lazy(opts, :name, &new_name/0)
    opts = Keyword.merge([name: name, queue: queue, legacy: legacy], opts)
    start_supervised!({Migration, opts}, id: name, restart: :temporary)
    %{name: name, queue: queue, legacy: legacy}
  end

  defp sizes(%{legacy: legacy, queue: queue}),
    do: {legacy.stats().queue_size, PaymentQueue.stats(queue).queue_size}

  describe "modes" do
    test "each new item is on the side that the mode says, and nowhere else" do
      %{name: name} = migration = migration!(OldQueue.baseline!())
      assert Migration.mode(name: name) == :legacy

      for {mode, expected} <- [
            legacy: {1, 0},
            native: {1, 1},
            legacy: {2, 1},
            shadow: {3, 1},
            native: {3, 2}
          ] do
        assert Migration.set_mode(mode, name: name) == :ok
        assert Migration.mode(name: name) == mode
        assert Migration.enqueue(:pay, name: name) == :ok
        assert sizes(migration) == expected
      end

      for {percent, expected} <- [{0, {4, 2}}, {0.0, {5, 2}}, {100, {5, 3}}, {100.0, {5, 4}}] do
        assert Migration.set_mode({:percent, percent}, name: name) == :ok
        assert Migration.enqueue(:pay, name: name) == :ok
        assert sizes(migration) == expected
      end

      assert Migration.stats(name: name) == %{queue_size: 9, in_flight: 0}
    end

    test "a mode is what was set, to two decimals" do
      %{name: name} = migration!(OldQueue.baseline!())

      for percent <- [0, 1, 5, 12.5, 33.33, 99.99, 100] do
        assert Migration.set_mode({:percent, percent}, name: name) == :ok
        assert Migration.mode(name: name) == {:percent, percent}
      end

      for bad <- [:nativ, nil, "native", 5, {:percent, -1}, {:percent, 100.01}, {:percent, 33.333}, {:percent, "5"}] do
        assert_raise ArgumentError, ~r/invalid value for :mode: .*; allowed: :legacy, :shadow, :native or/, fn ->
          Migration.set_mode(bad, name: name)
        end
      end

      assert Migration.mode(name: name) == {:percent, 100}
    end

    test "a share is sticky, only grows, and is about as large as it says" do
      %{name: name} = migration = migration!(OldQueue.baseline!(), key: & &1.customer)
      keys = Enum.to_list(1..2_000)

      sides = fn ->
        for key <- keys do
          {_, before} = sizes(migration)
          # The last of the three ways to give a key.
          opts = if rem(key, 2) == 0, do: [key: key], else: []
          assert Migration.enqueue(%{customer: key, at: make_ref()}, [name: name] ++ opts) == :ok
          {_, now} = sizes(migration)
          {key, now > before}
        end
        |> Enum.filter(&elem(&1, 1))
        |> MapSet.new(&elem(&1, 0))
      end

      shares =
        for percent <- [0, 0.5, 10, 10, 50, 90, 100] do
          :ok = Migration.set_mode({:percent, percent}, name: name)
          native = sides.()
          assert_in_delta MapSet.size(native), length(keys) * percent / 100, 120
          native
        end

      for [smaller, larger] <- Enum.chunk_every(shares, 2, 1, :discard), do: assert(MapSet.subset?(smaller, larger))
      assert Enum.at(shares, 2) == Enum.at(shares, 3)
    end

    test "a share ends exactly where it says" do
      %{name: name} = migration = migration!(OldQueue.baseline!())
      # The classes into which keys fall are hundredths of a percent, from 0 on.
      key_of = fn class -> Enum.find(Stream.iterate(1, &(&1 + 1)), &(:erlang.phash2(&1, 10_000) == class)) end

      for {percent, class, side} <- [
            {0, 0, :legacy},
            {0.01, 0, :native},
            {0.01, 1, :legacy},
            {99.99, 9_998, :native},
            {99.99, 9_999, :legacy},
            {100, 9_999, :native}
          ] do
        :ok = Migration.set_mode({:percent, percent}, name: name)
        before = Migration.report(name: name)
        :ok = Migration.enqueue(:pay, name: name, key: key_of.(class))
        assert Map.fetch!(Migration.report(name: name), side).calls == Map.fetch!(before, side).calls + 1
      end

      assert sizes(migration) == {3, 3}
    end

    test "a given key goes before the function, and a restart brings the function that it was given" do
      [new, old] = for side <- [true, false], do: Enum.find(1..1_000, &(:erlang.phash2(&1, 10_000) < 5_000 == side))
      legacy = OldQueue.baseline!()
      %{name: name, queue: queue} = migration = migration!(legacy, key: fn _ -> old end, mode: {:percent, 50})
      :ok = Migration.enqueue(:pay, name: name)
      assert sizes(migration) == {1, 0}
      :ok = Migration.enqueue(:pay, name: name, key: new)
      assert sizes(migration) == {1, 1}
      stop_supervised!(name)
      migration!(legacy, name: name, queue: queue, key: fn _ -> new end)
      assert Migration.mode(name: name) == {:percent, 50}
      :ok = Migration.enqueue(:pay, name: name)
      assert sizes(migration) == {1, 2}
    end

    test "without a key the payload is the key" do
      %{name: name} = migration = migration!(OldQueue.baseline!())
      :ok = Migration.set_mode({:percent, 50}, name: name)
      for _ <- 1..20, payload <- [%{id: 1}, %{id: 2}, "three"], do: Migration.enqueue(payload, name: name)
      natives = PaymentQueue.peek(100, migration.queue) |> Enum.frequencies()
      for {_, count} <- natives, do: assert(count == 20)
      assert sizes(migration) |> Tuple.sum() == 60
    end

    test "the mode outlives the migration's processes, a kill included" do
      legacy = OldQueue.baseline!()
      %{name: name, queue: queue} = migration = migration!(legacy)
      :ok = Migration.set_mode({:percent, 100}, name: name)
      kill(Process.whereis(Migration.Supervisor.name(name)))
      assert Migration.enqueue(:while_down, name: name) == :ok
      # The way to shadow mode needs processes, the way back needs none.
      assert Migration.set_mode(:shadow, name: name) == {:error, :not_running}
      assert Migration.drain_legacy(name: name) == {:error, :not_running, 0}
      {:ok, tree} = Migration.start_link(name: name, queue: queue, legacy: legacy, mode: :legacy)
      assert Migration.mode(name: name) == {:percent, 100}
      assert {:error, {:already_started, ^tree}} = Migration.start_link(name: name, queue: queue, legacy: legacy)
      Supervisor.stop(tree)
      assert Migration.set_mode(:legacy, name: name) == :ok
      assert Migration.enqueue(:back, name: name) == :ok
      assert sizes(migration) == {1, 1}
      assert Migration.report(name: name).legacy.calls == 1
    end

    test "another old queue under the same name begins anew" do
      %{name: name, queue: queue} = migration!(OldQueue.baseline!(), mode: :native)
      stop_supervised!(name)
      migration!(OldQueue.baseline!(), name: name, queue: queue)
      assert Migration.mode(name: name) == :legacy
    end

    test "a closed queue gets no live traffic, and the way back is open" do
      %{name: name, queue: queue} = migration!(OldQueue.baseline!(), mode: :native)
      :ok = PaymentQueue.drain(queue)
      assert Migration.set_mode({:percent, 1}, name: name) == {:error, :queue_closed}
      assert Migration.enqueue(:pay, name: name) == {:error, :queue_closed}
      assert Migration.set_mode(:legacy, name: name) == :ok
      assert Migration.set_mode(:native, name: name) == {:error, :queue_closed}
      assert Migration.mode(name: name) == :legacy
    end
  end

  describe "shadow mode" do
    test "the copy is never handled: the handler sees what the old workers see, once" do
      test = self()
      queue = queue!(handler: telling(test), concurrency: 2)
      legacy = OldQueue.baseline!()
      %{name: name} = migration!(legacy, queue: queue, mode: :shadow)
      for n <- 1..500, do: assert(Migration.enqueue({:old, n}, name: name) == :ok)
      :ok = Migration.set_mode(:native, name: name)
      for n <- 1..500, do: assert(Migration.enqueue({:new, n}, name: name) == :ok)
      for n <- 1..500, do: assert_receive({:handled, {:new, ^n}})
      refute_received {:handled, _}

      shadow = :"#{name}.migration.shadow"
      eventually(fn -> PaymentQueue.info(shadow).settled == 500 end)
      assert %{enqueued: 500, queue_size: 0, dead: 0} = assert_conserved(shadow)
      assert %{enqueued: 500, settled: 500} = assert_conserved(queue)
      assert legacy.stats().queue_size == 500
      assert Migration.report(name: name).agreement == %{both_accepted: 500, only_legacy: 0, only_native: 0, neither: 0}
    end

    test "the caller gets the old queue's answer, and both answers are kept" do
      legacy = OldQueue.baseline!(PaymentQueue.Baseline.GenServerQueue, capacity: 2)
      %{name: name} = migration!(legacy, queue: queue!(max_payload_bytes: 100, max_bytes: 1_000))
      :ok = Migration.set_mode(:shadow, name: name)
      large = :binary.copy("x", 101)
      assert Migration.enqueue("small", name: name) == :ok
      assert Migration.enqueue(large, name: name) == :ok
      assert Migration.enqueue("small", name: name) == {:error, :queue_full}
      assert Migration.enqueue(large, name: name) == {:error, :queue_full}
      report = Migration.report(name: name)
      assert report.agreement == %{both_accepted: 1, only_legacy: 1, only_native: 1, neither: 1}
      assert %{calls: 4, accepted: 2, refused: 2, errors: 0} = report.legacy
      assert %{calls: 4, accepted: 2, refused: 2, errors: 0} = report.shadow
      assert %{calls: 0} = report.native
    end

    test "copies cannot pile up, and a restart in shadow mode goes on" do
      legacy = OldQueue.baseline!(EtsQueue)
      %{name: name, queue: queue} = migration!(legacy, queue: queue!(capacity: 3), mode: :shadow)
      shadow = :"#{name}.migration.shadow"
      :ok = PaymentQueue.pause(shadow)
      for _ <- 1..10, do: :ok = Migration.enqueue(:pay, name: name)
      assert PaymentQueue.info(shadow).queue_size <= 3
      assert %{accepted: accepted, refused: refused} = Migration.report(name: name).shadow
      assert accepted + refused == 10
      stop_supervised!(name)
      :ok = PaymentQueue.resume(shadow)
      migration!(legacy, name: name, queue: queue)
      assert Migration.mode(name: name) == :shadow
      eventually(fn -> PaymentQueue.stats(shadow) == %{queue_size: 0, in_flight: 0} end)
      assert PaymentQueue.info(queue).enqueued == 0
    end
  end

  describe "answers of the old queue" do
    for {value, answer, row} <- [
          {:ok, :ok, :accepted},
          {{:ok, 17}, :ok, :accepted},
          {true, :ok, :accepted},
          {false, {:error, :refused}, :refused},
          {:error, {:error, :refused}, :refused},
          {{:error, :busy}, {:error, :busy}, :refused},
          {:queued, {:error, {:bad_return, :queued}}, :errors}
        ] do
      test "#{inspect(value)}" do
        %{name: name} = migration!(OldQueue.asking!())
        call = Task.async(fn -> Migration.enqueue(:pay, name: name) end)
        assert_receive {:legacy, pid, {:enqueue, :pay}}
        OldQueue.answer(pid, unquote(Macro.escape(value)))
        assert Task.await(call) == unquote(Macro.escape(answer))
        report = report(name)
        assert %{unquote(row) => 1, calls: 1, unfinished: 0} = report.legacy
        assert report.legacy.accepted + report.legacy.refused + report.legacy.errors == 1
      end
    end

    test "what it raises, the caller gets, and it is counted" do
      %{name: name} = migration!(OldQueue.asking!())
      calls = [fn -> raise "old trouble" end, fn -> exit(:noproc) end, fn -> throw(:ball) end]

      for {die, n} <- Enum.with_index(calls, 1) do
        call =
          Task.async(fn ->
            try do
              Migration.enqueue(:pay, name: name)
            catch
              kind, reason -> {kind, reason}
            end
          end)

        assert_receive {:legacy, pid, {:enqueue, :pay}}
        OldQueue.answer(pid, die)
        assert Task.await(call) in [{:error, %RuntimeError{message: "old trouble"}}, {:exit, :noproc}, {:throw, :ball}]
        assert %{errors: ^n, unfinished: 0} = report(name).legacy
      end
    end

    test "a caller killed in the old queue's call stays among the unfinished" do
      %{name: name} = migration!(OldQueue.asking!())
      caller = spawn(fn -> Migration.enqueue(:pay, name: name) end)
      assert_receive {:legacy, ^caller, {:enqueue, :pay}}
      assert %{calls: 1, unfinished: 1, accepted: 0} = report(name).legacy
      kill(caller)
      assert %{calls: 1, unfinished: 1, accepted: 0} = report(name).legacy
    end
  end

  # The report asks the old queue for its size; this queue asks the test.
  defp report(name, stats \\ %{queue_size: 0}) do
    report = Task.async(fn -> Migration.report(name: name) end)
    assert_receive {:legacy, pid, :stats}
    OldQueue.answer(pid, stats)
    Task.await(report)
  end

  describe "report/1" do
    test "covers the time since the start or since the mode was set" do
      %{name: name} = migration!(OldQueue.baseline!(), queue: queue!(capacity: 3))
      for _ <- 1..4, do: :ok = Migration.enqueue(:pay, name: name)
      :ok = Migration.set_mode(:native, name: name)
      for _ <- 1..5, do: Migration.enqueue(:pay, name: name)
      report = Migration.report(name: name)
      assert %{calls: 4, accepted: 4, refused: 0, queue_size: 4, in_flight: 0} = report.legacy
      assert %{calls: 5, accepted: 3, refused: 2, queue_size: 3, in_flight: 0} = report.native
      assert %{calls: 0, p50_us: nil, queue_size: nil} = report.shadow
      for side <- [report.legacy, report.native], do: assert(ordered?(side))

      since = Migration.report(name: name, since: :mode)
      assert %{calls: 0, accepted: 0, p99_us: nil} = since.legacy
      assert %{calls: 5, accepted: 3, refused: 2} = since.native
      assert DateTime.compare(since.since, report.since) != :lt

      :ok = Migration.set_mode(:legacy, name: name)
      assert Migration.report(name: name, since: :mode).native.calls == 0

      :ok = Migration.set_mode(:shadow, name: name)
      :ok = Migration.enqueue(:pay, name: name)
      # Until the clock of the report, in milliseconds, has moved on.
      start = Migration.report(name: name).at
      eventually(fn -> DateTime.compare(Migration.report(name: name).at, start) == :gt end)
      :ok = Migration.set_mode(:legacy, name: name)
      since = Migration.report(name: name, since: :mode)
      assert DateTime.compare(since.since, start) == :gt
      assert since.agreement == %{both_accepted: 0, only_legacy: 0, only_native: 0, neither: 0}
      assert Migration.report(name: name).agreement.both_accepted == 1
      assert_raise ArgumentError, ~r/invalid value for :since/, fn -> Migration.report(name: name, since: :ever) end
    end

    defp ordered?(side), do: 0 < side.p50_us and side.p50_us <= side.p95_us and side.p95_us <= side.p99_us

    test "prints as a table of both sides" do
      %{name: name} = migration!(OldQueue.baseline!())
      :ok = Migration.enqueue(:pay, name: name)
      lines = Migration.report(name: name) |> to_string() |> String.split("\n")
      assert hd(lines) =~ "migration #{inspect(name)}, mode :legacy, "
      assert "                    legacy        native        shadow" in lines
      assert "accepted                 1             0             0" in lines
      assert Enum.any?(lines, &(&1 =~ ~r/^p99 us +[\d.]+ +- +-$/))
    end

    test "statistics that nobody knows leave a gap in it, and stats/1 says what they were" do
      %{name: name, legacy: legacy} = migration!(OldQueue.asking!())

      for {stats, size} <- [
            {%{queue_size: 3, in_flight: 2}, {3, 2}},
            {%{queue_size: -1, in_flight: -1}, {0, 0}},
            {7, {7, 0}},
            {%{queue_size: 3, in_flight: [:a]}, nil},
            {[queue_size: 3], nil}
          ] do
        report = report(name, stats)
        assert {report.legacy.queue_size, report.legacy.in_flight} == (size || {nil, nil})
        assert to_string(report) =~ ~r/queue size +#{if size, do: elem(size, 0), else: "-"} /

        call =
          Task.async(fn -> if size, do: Migration.stats(name: name), else: catch_error(Migration.stats(name: name)) end)

        assert_receive {:legacy, pid, :stats}
        OldQueue.answer(pid, stats)

        if size do
          assert Task.await(call) == %{queue_size: elem(size, 0), in_flight: elem(size, 1)}
        else
          assert Exception.message(Task.await(call)) =~ "#{inspect(legacy)}.stats/0 did not answer as"
        end
      end
    end

    test "an old queue that does not answer leaves a gap in it" do
      legacy = OldQueue.baseline!()
      %{name: name} = migration!(legacy, mode: :native)
      :ok = Migration.enqueue(:pay, name: name)
      stop_supervised!(legacy)
      assert %{queue_size: nil} = Migration.report(name: name).legacy
      assert_raise RuntimeError, ~r"stats/0 did not answer", fn -> Migration.stats(name: name) end
    end
  end

  describe "options" do
    test "are checked, and the message says what is allowed" do
      queue = queue!()
      good = [name: new_name(), queue: queue, legacy: OldQueue.baseline!()]

      for {bad, message} <- [
            {[legacy: nil], ~r/invalid value for :legacy: nil/},
            {[legacy: NoSuchModule], ~r/invalid value for :legacy: NoSuchModule; allowed: a module that is loaded/},
            {[legacy: Enum], ~r"Enum.enqueue/1 is not exported"},
            {[mode: :new], ~r/invalid value for :mode: :new; allowed/},
            {[key: :customer], ~r/invalid value for :key: :customer; allowed: a function of the payload/},
            {[queue: :never_started], ~r/the queue :never_started was never started/},
            {[name: "text"], ~r/invalid value for :name/},
            {[name: :"#{String.duplicate("n", 190)}"], ~r/invalid value for :name/},
            {[mod: :legacy], ~r/unknown keys \[:mod\]/}
          ] do
        assert_raise ArgumentError, message, fn -> Migration.start_link(Keyword.merge(good, bad)) end
      end

      assert_raise ArgumentError, ~r/unknown keys \[:delay\]/, fn -> Migration.enqueue(:pay, delay: 5) end
      assert_raise ArgumentError, ~r/the migration :nowhere was never started/, fn -> Migration.mode(name: :nowhere) end
    end

    test "the default name serves the calls without options" do
      legacy = OldQueue.baseline!()
      migration = migration!(legacy, name: :default)
      assert Migration.enqueue(1) == :ok
      assert Migration.enqueue(2, key: 2) == :ok
      assert Migration.mode() == :legacy
      assert Migration.set_mode(:native) == :ok
      assert Migration.drain_legacy() == {:ok, 2}
      assert Migration.stats() == %{queue_size: 2, in_flight: 0}
      assert %{name: :default} = Migration.report()
      assert PaymentQueue.peek(5, migration.queue) == [1, 2]
      assert %{id: {Migration, :default}, type: :supervisor} = Migration.child_spec(legacy: legacy)
    end
  end
end
