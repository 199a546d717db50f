defmodule PaymentQueue.Soak.LedgerTest do
  # The soak's checker has to be able to fail: each law is broken here on purpose, and has to be reported.
  use ExUnit.Case, async: true

  alias PaymentQueue.Soak.{Audit, Ledger}

  setup do: {:ok, ledger: Ledger.new(:planted)}

  defp laws(ledger), do: for({law, _text} <- Ledger.violations(ledger), do: law)

  defp accepted(ledger, ids) do
    for id <- ids, do: [Ledger.offer(ledger, id), Ledger.accept(ledger, id)]
  end

  defp handled(ledger, ids) do
    for id <- ids, do: [Ledger.deliver(ledger, id), Ledger.done(ledger, id)]
  end

  defp acknowledged(ledger, ids) do
    for id <- ids, do: Ledger.settled(ledger, id, Ledger.deliver(ledger, id))
  end

  @counters [:enqueued, :settled, :queue_size, :in_flight, :scheduled, :bytes, :dead, :dead_dropped, :purged]
  @nothing Map.new(@counters, &{&1, 0})

  # What the queue says of itself at two quiet points.
  defp audit(ledger, now, dead \\ []),
    do: Audit.run(ledger, %{before: @nothing, now: Map.merge(@nothing, Map.new(now)), dead: dead})

  # Somebody else, who is alive or not.
  defp other(work) do
    test = self()

    pid =
      spawn_link(fn ->
        send(test, {:worked, work.()})
        receive(do: (:end -> :ok))
      end)

    assert_receive {:worked, _}
    pid
  end

  defp gone(pid) do
    monitor = Process.monitor(pid)
    send(pid, :end)
    assert_receive {:DOWN, ^monitor, _, _, _}
  end

  test "what went well is no violation: settled, dead, purged, given back, of a holder that died", %{ledger: ledger} do
    accepted(ledger, 1..10)
    handled(ledger, 1..3)
    acknowledged(ledger, 4..5)
    for id <- 6..7, do: [Ledger.deliver(ledger, id), Ledger.release(ledger, id)]
    handled(ledger, 6..6)
    gone(other(fn -> Ledger.deliver(ledger, 8) end))
    gone(other(fn -> handled(ledger, 9..9) end))
    handled(ledger, 8..9)
    Ledger.offer(ledger, 11)
    Ledger.refuse(ledger, 11)
    # 7 is dead, 10 was purged.
    audit(ledger, [enqueued: 10, settled: 8, dead: 1, purged: 1], [7])
    assert laws(ledger) == []

    # Dead letters outlive the quiet point.
    Ledger.turn(ledger, MapSet.new([7]))
    handled(ledger, 7..7)
    audit(ledger, enqueued: 0)
    assert laws(ledger) == [:settled]
  end

  test "a lost item is named", %{ledger: ledger} do
    accepted(ledger, 1..3)
    handled(ledger, 1..2)
    # The queue claims that all went well.
    audit(ledger, enqueued: 3, settled: 3)
    assert [{:lost, text}] = Ledger.violations(ledger)
    assert text =~ "1 items are nowhere" and text =~ "[3]"
  end

  test "a lost item that the queue does not count either breaks the conservation too", %{ledger: ledger} do
    accepted(ledger, 1..3)
    handled(ledger, 1..2)
    audit(ledger, enqueued: 3, settled: 2)
    assert :conservation in laws(ledger) and :lost in laws(ledger)
  end

  test "an item that was accepted behind the callers' back", %{ledger: ledger} do
    accepted(ledger, 1..2)
    handled(ledger, 1..2)
    audit(ledger, enqueued: 3, settled: 3)
    assert laws(ledger) == [:accepted, :settled]
  end

  test "a caller that was killed leaves an item of which both is right", %{ledger: ledger} do
    for enqueued <- [2, 3] do
      accepted(ledger, 1..2)
      Ledger.offer(ledger, 3)
      handled(ledger, 1..2)
      audit(ledger, enqueued: enqueued, settled: enqueued)
      assert laws(ledger) == []
      Ledger.turn(ledger, MapSet.new())
    end
  end

  test "two items of one partition in flight at once, and one that comes out after a younger one", %{ledger: ledger} do
    for id <- 1..4, do: Ledger.partition(ledger, id, :a)
    accepted(ledger, 1..4)
    other(fn -> Ledger.deliver(ledger, 1) end)
    Ledger.deliver(ledger, 2)
    assert [{:partition, text}] = Ledger.violations(ledger)
    assert text =~ "item 2 came out while item 1 of the partition :a was in flight"

    Ledger.done(ledger, 2)
    Ledger.deliver(ledger, 4)
    Ledger.done(ledger, 4)
    Ledger.deliver(ledger, 3)
    assert [_, {:partition, text}] = Ledger.violations(ledger)
    assert text =~ "item 3 came out after item 4"
  end

  test "an item of a partition after a dead holder, a release or an end", %{ledger: ledger} do
    for id <- 1..4, do: Ledger.partition(ledger, id, :a)
    accepted(ledger, 1..4)
    gone(other(fn -> Ledger.deliver(ledger, 1) end))
    Ledger.deliver(ledger, 1)
    Ledger.done(ledger, 1)
    Ledger.deliver(ledger, 2)
    Ledger.release(ledger, 2)
    Ledger.deliver(ledger, 2)
    Ledger.done(ledger, 2)
    Ledger.deliver(ledger, 3)
    assert laws(ledger) == []
  end

  test "settled twice: two leases, or again after the holder was done", %{ledger: ledger} do
    accepted(ledger, 1..3)
    acknowledged(ledger, [1])
    Ledger.settled(ledger, 1, 1)
    assert laws(ledger) == [:settled_twice]
    Ledger.deliver(ledger, 1)
    assert laws(ledger) == [:settled_twice, :settled_twice]
    # This process has handled it and lives.
    handled(ledger, [2, 2])
    assert length(laws(ledger)) == 3
    acknowledged(ledger, [3])
    audit(ledger, [enqueued: 3, settled: 2, dead: 1], [3])
    assert {:settled_twice, "item 3 was acknowledged and is a dead letter"} in Ledger.violations(ledger)
  end

  test "two living holders", %{ledger: ledger} do
    accepted(ledger, [1])
    other(fn -> Ledger.deliver(ledger, 1) end)
    assert laws(ledger) == []
    Ledger.deliver(ledger, 1)
    assert laws(ledger) == [:two_holders]
  end

  test "a stale lease that was acknowledged", %{ledger: ledger} do
    accepted(ledger, [1])
    gone(other(fn -> Ledger.deliver(ledger, 1) end))
    assert Ledger.deliver(ledger, 1) == 2
    Ledger.settled(ledger, 1, 1)
    assert laws(ledger) == [:stale_ack]
  end

  test "what nobody accepted comes out: refused, finished in an earlier round, never there", %{ledger: ledger} do
    Ledger.offer(ledger, 1)
    Ledger.deliver(ledger, 1)
    Ledger.refuse(ledger, 1)
    assert laws(ledger) == [:refused]
    accepted(ledger, [2])
    acknowledged(ledger, [2])
    Ledger.turn(ledger, MapSet.new())
    assert Ledger.deliver(ledger, 2) == 0
    assert Ledger.deliver(ledger, 3) == 0
    assert laws(ledger) == [:refused, :ghost, :ghost]
  end

  test "an item before its time", %{ledger: ledger} do
    Ledger.offer(ledger, 1, 60_000)
    Ledger.accept(ledger, 1)
    Ledger.deliver(ledger, 1)
    assert laws(ledger) == [:early]
  end

  test "two items of one key at the same time", %{ledger: ledger} do
    for id <- 1..2, do: Ledger.offer(ledger, id, 0, :a_key)
    Ledger.accept(ledger, 1)
    handled(ledger, [1])
    Ledger.accept(ledger, 2)
    assert laws(ledger) == []
    Ledger.offer(ledger, 3, 0, :a_key)
    Ledger.accept(ledger, 3)
    assert laws(ledger) == [:unique]
  end

  test "an over-full queue, and one that has lost room", %{ledger: ledger} do
    accepted(ledger, 1..12)
    handled(ledger, 1..2)
    Ledger.bound(ledger, 10, 0)
    Ledger.bound(ledger, 8, 2)
    assert laws(ledger) == []
    Ledger.bound(ledger, 8, 1)
    assert laws(ledger) == [:bound]

    Audit.full(ledger, 10, 10, %{queue_size: 10, in_flight: 0})
    assert laws(ledger) == [:bound]
    Audit.full(ledger, 10, 11, %{queue_size: 11, in_flight: 0})
    Audit.full(ledger, 10, 9, %{queue_size: 9, in_flight: 0})
    Audit.full(ledger, 10, 10, %{queue_size: 9, in_flight: 0})
    assert laws(ledger) == [:bound, :bound, :bound, :bound]
  end

  test "dead letters that nobody knows, that are there twice, or that are not shown", %{ledger: ledger} do
    accepted(ledger, 1..2)
    handled(ledger, [2])
    audit(ledger, [enqueued: 2, settled: 1, dead: 1], [1, 1, 99])
    assert laws(ledger) == [:dead, :dead, :dead]
  end

  test "a queue that is not at rest", %{ledger: ledger} do
    accepted(ledger, [1])
    audit(ledger, enqueued: 1, in_flight: 1)
    assert :rest in laws(ledger)
  end
end
