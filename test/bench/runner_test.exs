defmodule PaymentQueue.Bench.RunnerTest do
  use ExUnit.Case, async: true

  alias PaymentQueue.Bench.{Cell, EtsAdapter, GenServerAdapter, Goal, NativeAdapter, Progress, Runner, Summary}

  @adapters [GenServerAdapter, EtsAdapter, NativeAdapter]

  # Measures nothing: gives these numbers, one a round, and notes who asked.
  defp cell(name, numbers, opts \\ []) do
    {:ok, log} = Agent.start_link(fn -> [] end)
    next = fn subject -> Agent.get_and_update(log, &{nth(numbers, subject, &1), [subject | &1]}) end

    struct!(
      %Cell{
        name: name,
        table: :steps,
        rows: [Cell.row(name, "ns", :lower)],
        prepare: fn adapter -> Agent.update(log, &[{:prepared, adapter} | &1]) && adapter end,
        measure: fn adapter, adapter -> next.(adapter) end,
        floor: %{name: "nothing", measure: fn -> next.(:floor) end}
      },
      opts
    )
    |> then(&{&1, fn -> log |> Agent.get(fn log -> log end) |> Enum.reverse() end})
  end

  defp nth(numbers, subject, log), do: numbers |> Map.fetch!(subject) |> Enum.at(Enum.count(log, &(&1 == subject)))

  defp run(cells, rounds), do: Runner.run(cells, @adapters, rounds, fn _step -> :ok end)

  @numbers %{
    GenServerAdapter => [[1], [2], [3]],
    EtsAdapter => [[100], [200], [50]],
    NativeAdapter => [[10], [10], [20]],
    :floor => [[5], [5], [5]]
  }

  test "each round measures every queue and the floor, in rotated order, after all are prepared" do
    {cell, log} = cell("a", @numbers)
    {[{%Cell{name: "a"}, %{name: "a"}, values}], []} = run([cell], 3)

    assert values == Map.new(@numbers, fn {subject, samples} -> {subject, List.flatten(samples)} end)
    {prepared, measured} = Enum.split(log.(), 3)
    assert prepared == for(adapter <- @adapters, do: {:prepared, adapter})
    rounds = Enum.chunk_every(measured, 4)
    for round <- rounds, do: assert(Enum.sort(round) == Enum.sort([:floor | @adapters]))
    assert rounds |> Enum.map(&hd/1) |> Enum.uniq() |> length() == 3
  end

  test "cells can have fewer rounds and fewer queues, and no floor" do
    {few, _log} = cell("few", @numbers, rounds: 1, adapters: [NativeAdapter], floor: nil)
    {all, _log} = cell("all", @numbers)
    {results, []} = run([few, all], 3)

    assert [{"few", %{NativeAdapter => [10]}}, {"all", %{NativeAdapter => [10, 10, 20]}}] =
             for({cell, _row, values} <- results, do: {cell.name, values})
  end

  test "what a machine cannot measure is reported with the reason, the rest is measured" do
    {broken, _log} = cell("broken", @numbers, measure: fn _, _ -> {:skip, "no wrk"} end)
    {fine, _log} = cell("fine", @numbers)
    assert {[{%{name: "fine"}, _row, _values}], [{%{name: "broken"}, "no wrk"}]} = run([broken, fine], 2)
  end

  test "a wrong result ends the run" do
    alias PaymentQueue.Bench.WrongResult
    {cell, _log} = cell("wrong", @numbers, measure: fn _, _ -> WrongResult.check!("items", 10, 9) end)
    assert_raise WrongResult, "items: expected 10, got 9", fn -> run([cell], 1) end
  end

  test "steps are counted from one to the total" do
    {cell, _log} = cell("a", @numbers)
    me = self()
    Runner.run([cell], @adapters, 2, &send(me, &1))
    assert Runner.count([cell], @adapters, 2) == 11
    for number <- 1..11, do: assert_received(%{number: ^number, total: 11, what: _})
    refute_received %{number: _}
    assert Progress.line(%{number: 1, total: 4, what: "x"}, 65) =~ ~r/^░{24}   0 %  1:05  x$/u
    assert Progress.line(%{number: 3, total: 4, what: "x"}, 0) =~ ~r/^█{12}░{12}  50 %  0:00  x$/u
  end

  describe "the summary" do
    defp summary(row_options, numbers \\ @numbers) do
      {cell, _log} = cell("a", numbers, rows: [struct_row(row_options)])
      {results, []} = run([cell], 3)
      [%{rows: [row]}] = Summary.tables(results, [{:steps, "Steps", "a note"}], @adapters)
      row
    end

    defp struct_row(options), do: Map.merge(Cell.row("a", "ns", :lower), Map.new(options))

    test "has medians and spreads, and ratios of rounds rather than of medians" do
      row = summary([])
      assert {"native", %{median: 10, min: 10, max: 20, rounds: [10, 10, 20]}} = List.keyfind(row.queues, "native", 0)
      # 10/100, 10/200, 20/50; the medians' ratio would be the same here by chance only if it were 0.1.
      assert_in_delta row.ratio.median, 0.1, 1.0e-9
      assert_in_delta row.ratio.max, 0.4, 1.0e-9
      assert summary(ratio: false).ratio == nil
    end

    test "shows how much of the floor's speed is reached, of times and of rates" do
      assert summary(better: :lower).floor.share.median == 0.5
      assert summary(better: :higher).floor.share.median == 2.0
      assert summary(better: :lower).floor.name == "nothing"
    end

    test "judges goals by the ratio, the value and the share" do
      verdict = fn goal -> summary(goals: [goal]).goals |> hd() |> Map.fetch!(:verdict) end
      assert verdict.(Goal.ratio_at_most(0.1)) == :met
      assert verdict.(Goal.ratio_at_most(0.09)) == :missed
      assert verdict.(Goal.ratio_at_least(0.11)) == :missed
      assert verdict.(Goal.at_most(10)) == :met
      assert verdict.(Goal.at_least(11)) == :missed
      assert verdict.(Goal.share_at_least(0.5)) == :met
      assert verdict.(Goal.share_at_least(0.51)) == :missed
    end

    test "of what was not measured has no number and no verdict" do
      row = summary([goals: [Goal.at_most(1)]], %{@numbers | NativeAdapter => [[nil], [nil], [nil]]})
      assert {"native", nil} = List.keyfind(row.queues, "native", 0)
      assert row.ratio == nil
      assert [%{verdict: :not_measured}] = row.goals
    end
  end
end
