# The whole way of an item (produced, taken, settled) through the two replaced queues and through PaymentQueue.
# bench/README.md says how to run it and how to read what it prints.
Code.require_file("support/load.exs", __DIR__)

defmodule PaymentQueue.Bench.EndToEnd do
  @moduledoc false

  alias PaymentQueue.Bench.{Adapter, Depth, EtsAdapter, Machine, Memory, NativeAdapter, Report, Runner}
  alias PaymentQueue.Bench.{Throughput, WakeUp, WrongResult}

  @switches [quick: :boolean, rounds: :integer, seconds: :float, only: :string]
  @full %{rounds: 5, seconds: 1.2, queued: 500_000, wake_ups: 1_000, operations: 300_000}
  @quick %{rounds: 1, seconds: 0.3, queued: 100_000, wake_ups: 300, operations: 50_000}

  @spec main([String.t()]) :: :ok | no_return()
  def main(argv) do
    options = parse(argv)

    size = Map.merge(if(options[:quick], do: @quick, else: @full), Map.new(Keyword.take(options, [:rounds, :seconds])))
    cells = size |> cells() |> select(options[:only])
    columns = %{all: Adapter.all(), ours: NativeAdapter, base: EtsAdapter}

    IO.puts(Report.header(Machine.facts() ++ [{"rounds", "#{size.rounds}, interleaved"}]) <> "\n")
    {timed, untimed} = Enum.split_with(cells, & &1.timed)
    before = Machine.cpu_reading()
    times = Runner.run(timed, columns.all, size.rounds, &progress/1)
    others = Machine.others_percent(before, Machine.cpu_reading())
    sizes = Runner.run(untimed, columns.all, size.rounds, &progress/1)

    print(times ++ sizes, columns)
    if timed != [], do: warn_of_others(others)
  rescue
    error in WrongResult ->
      IO.puts(:stderr, "\nwrong result: #{error.message}")
      exit({:shutdown, 1})
  end

  defp cells(size) do
    [
      throughput(size, :map, 1, 1, 3),
      throughput(size, :map, 4, 1, 5),
      throughput(size, :binary, 1, 1, 3),
      throughput(size, :binary, 4, 1, 3),
      at_most_once(size, :map, 1, 3),
      at_most_once(size, :map, 4, 5),
      at_most_once(size, :binary, 1, 3),
      throughput(size, :map, 1, 32, nil),
      throughput(size, :map, 4, 32, nil),
      Memory.cell(:map, size.queued, 0.6),
      Memory.cell(:json, size.queued, nil),
      Memory.cell(:binary, size.queued, nil),
      WakeUp.cell(size.wake_ups, 20),
      Depth.cell(size.operations, 1.3)
    ]
  end

  defp throughput(size, kind, each, batch, goal) do
    shape = %{kind: kind, producers: each, workers: each, batch: batch, take: :leased}
    Throughput.cell(shape, size.seconds, goal)
  end

  # Like for like: what the replaced queues promise their workers, and no more.
  defp at_most_once(size, kind, each, goal) do
    shape = %{kind: kind, producers: each, workers: each, batch: 1, take: :once}
    Throughput.cell(shape, size.seconds, goal)
  end

  defp select(cells, nil), do: cells

  # "map 1+1" is a cell, and also the beginning of another's name.
  defp select(cells, wanted) do
    exact = Enum.filter(cells, &(&1.name == wanted))
    similar = Enum.filter(cells, &String.contains?(&1.name, wanted))

    case {exact, similar} do
      {[], []} -> usage("no cell is called #{inspect(wanted)}; there are: #{Enum.map_join(cells, ", ", & &1.name)}")
      {[], similar} -> similar
      {exact, _} -> exact
    end
  end

  defp print(results, columns) do
    IO.puts("\nSpread (smallest..largest)\n\n#{Report.spread(results, columns)}")
    IO.puts("\nMedians\n\n#{Report.medians(results, columns)}\n")

    case Report.missed(results, columns) do
      [] -> IO.puts("Every goal that was measured is met.")
      missed -> IO.puts("Goals missed: #{Enum.join(missed, ", ")}.")
    end
  end

  defp progress(step), do: IO.puts(:stderr, step)

  # The queues do not suffer alike: two cores that are never free together spare the ETS table its contention.
  defp warn_of_others(percent) when is_integer(percent) and percent > 5 do
    IO.puts("Other processes had #{percent} % of the CPUs meanwhile: measure again on a quiet machine.")
  end

  defp warn_of_others(_percent), do: :ok

  defp parse(argv) do
    case OptionParser.parse(argv, strict: @switches) do
      {options, [], []} -> validate(options)
      {_, [word | _], _} -> usage("unexpected #{inspect(word)}")
      {_, _, [{switch, _} | _]} -> usage("cannot read #{switch}")
    end
  end

  defp validate(options) do
    for {name, value} <- options, name in [:rounds, :seconds], value <= 0, do: usage("--#{name} must be above 0")
    options
  end

  @spec usage(String.t()) :: no_return()
  defp usage(problem) do
    IO.puts(:stderr, "#{problem}\nmix run bench/e2e.exs [--quick] [--rounds N] [--seconds S] [--only NAME]")
    exit({:shutdown, 1})
  end
end

PaymentQueue.Bench.EndToEnd.main(System.argv())
