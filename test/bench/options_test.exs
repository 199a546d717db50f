defmodule PaymentQueue.Bench.OptionsTest do
  use ExUnit.Case, async: true

  alias PaymentQueue.Bench.{Catalog, Options}

  @everything %{quick: false, only: [], rounds: nil, seconds: nil, json: nil, html: nil}

  test "without arguments everything is measured in full" do
    assert Options.parse([]) == {:run, @everything}
  end

  test "each option is read" do
    argv = ~w(--quick --only steps --only map --rounds 3 --seconds 0.5 --json a.json --html b.html)

    assert Options.parse(argv) ==
             {:run, %{quick: true, only: ["steps", "map"], rounds: 3, seconds: 0.5, json: "a.json", html: "b.html"}}

    assert Options.parse(["--help"]) == :help
    assert Options.parse(["-h"]) == :help
    assert Options.parse(["--list"]) == :list
  end

  test "an error names the option, its value and what is allowed" do
    for {argv, words} <- [
          {~w(--fast), ["--fast", "--quick", "--only"]},
          {~w(quick), ["quick"]},
          {~w(--rounds 0), ["--rounds 0", "from 1"]},
          {~w(--rounds many), ["--rounds many", "whole number"]},
          {~w(--seconds -1), ["--seconds", "above 0"]},
          {~w(--only), ["--only", "value"]},
          {~w(--json /no/such/directory/a.json), ["--json", "directory that exists"]},
          {~w(--html .), ["--html", "file"]}
        ] do
      assert {:error, text} = Options.parse(argv)
      for word <- words, do: assert(text =~ word, "#{inspect(argv)}: #{text}")
    end
  end

  test "the usage names every option" do
    for option <- ~w(--quick --only --json --html --rounds --seconds --list), do: assert(Options.usage() =~ option)
  end

  describe "the catalog" do
    setup do
      {:ok, cells: %{@everything | quick: true} |> Catalog.size() |> Catalog.cells()}
    end

    test "has cells for each of its tables, with names of their own", %{cells: cells} do
      tables = for {table, _title, _note} <- Catalog.tables(), do: table
      assert cells |> Enum.map(& &1.table) |> Enum.uniq() |> Enum.sort() == Enum.sort(tables)
      names = Enum.map(cells, & &1.name)
      assert names -- Enum.uniq(names) == []
      rows = for cell <- cells, row <- cell.rows, do: {cell.table, row.name}
      assert rows -- Enum.uniq(rows) == []
    end

    test "measures every number of producers with every number of workers and every payload", %{cells: cells} do
      names = MapSet.new(cells, & &1.name)

      for kind <- ["map", "256 B", "4 KiB", "64 KiB"], producers <- [1, 2, 4, 16, 64, 1000] do
        assert "enqueue #{kind} #{producers}" in names
        for workers <- [1, 4, 16, 64], do: assert("#{kind} #{producers}+#{workers}" in names)
      end
    end

    test "has every goal that was set", %{cells: cells} do
      goals = for cell <- cells, row <- cell.rows, goal <- row.goals, do: {row.name, goal.of, goal.bound}

      assert Enum.sort(goals) ==
               Enum.sort(
                 [
                   {"map 4+4", :ratio, 8},
                   {"map 1+1", :ratio, 5},
                   {"map 1+1", :share, 0.6},
                   {"256 B 4+4", :ratio, 6},
                   {"map 4+4 batch-32", :ratio, 10},
                   {"map 64+64", :ratio, 12},
                   {"enqueue alone, p50", :value, 0.5},
                   {"enqueue alone, p99.9", :value, 20},
                   {"parked taker woken, median", :value, 10},
                   {"queued map", :ratio, 0.5},
                   {"queued 256 B", :value, 352},
                   {"depth 1 M / 1 K", :value, 1.1},
                   {"priorities: 16, unused", :value, 1.05},
                   {"unique_for:, unused", :value, 1.05}
                 ] ++ if(2 in PaymentQueue.Bench.Schedulers.counts(), do: [{"schedulers 2 / 1", :value, 1.7}], else: [])
               )
    end

    test "is chosen from by table, by cell, and by part of a name", %{cells: cells} do
      chosen = fn names -> with {:ok, cells} <- Catalog.select(cells, names), do: Enum.map(cells, & &1.name) end
      assert chosen.(["map 1+1"]) == ["map 1+1"]
      assert chosen.(["batch"]) == ["map 4+4 batch-32", "map 1+1 batch-32"]
      assert length(chosen.(["enqueue_only"])) == 24
      assert chosen.(["wake-up", "steps"]) == ["steps", "wake-up"]
      assert chosen.([]) == Enum.map(cells, & &1.name)
      assert {:error, text} = chosen.(["wake-down"])
      assert text =~ "--only wake-down"
      for cell <- cells, do: assert(Catalog.list(cells) =~ cell.name)
    end
  end
end
