defmodule PaymentQueue.Bench do
  @moduledoc """
  Compares PaymentQueue with the two queues that it replaces: measures the chosen cells in interleaved rounds, and reports.
  bench/README.md says how to read what it prints.
  """

  alias PaymentQueue.Bench.{Adapter, Catalog, ChartLibrary, HtmlReport, JsonReport, Machine, Model, Options, Progress}
  alias PaymentQueue.Bench.{Runner, Summary, Text, WrongResult}

  @doc "Runs with these command line arguments and returns the exit status."
  @spec main([String.t()]) :: 0..2
  def main(argv) do
    case Options.parse(argv) do
      {:run, options} -> prepare(options)
      :list -> %{quick: false, rounds: nil, seconds: nil} |> all_cells() |> Catalog.list() |> say(0)
      :help -> say(Options.usage(), 0)
      {:error, problem} -> fail("#{problem}\n\n#{Options.usage()}", 2)
    end
  end

  defp all_cells(options), do: options |> Catalog.size() |> Catalog.cells()

  defp prepare(options) do
    # What is missing is said before the measuring, not after.
    with {:ok, cells} <- Catalog.select(all_cells(options), options.only),
         {:ok, library} <- if(options.html, do: ChartLibrary.fetch(), else: {:ok, nil}) do
      run(options, cells, library)
    else
      {:error, problem} -> fail(problem, 2)
    end
  end

  defp run(options, cells, library) do
    size = Catalog.size(options)
    facts = Machine.facts() ++ [{"measured", "#{size.rounds} rounds, interleaved#{if options.quick, do: " (--quick)"}"}]
    IO.puts(Text.header(facts) <> "\n")

    {results, skipped, others} = measure(cells, size.rounds)
    tables = Summary.tables(results, Catalog.tables(), Adapter.all())
    facts = facts ++ [{"other processes", others}]
    report(options, library, %{facts: facts, tables: tables, model: Model.of(tables), skipped: skipped})
    0
  rescue
    error in WrongResult ->
      Progress.finish()
      fail("WRONG RESULT: #{error.message}", 1)
  end

  # The others' use of the CPU is only known of cells that run in this VM, so these come first.
  defp measure(cells, rounds) do
    {timed, untimed} = Enum.split_with(cells, & &1.timed)
    adapters = Adapter.all()
    first = Runner.count(timed, adapters, rounds)
    total = first + Runner.count(untimed, adapters, rounds)
    notify = Progress.start()

    before = Machine.cpu_reading()
    {times, skipped} = Runner.run(timed, adapters, rounds, &notify.(%{&1 | total: total}))
    others = if timed != [], do: Machine.others_percent(before, Machine.cpu_reading())

    {more, also_skipped} =
      Runner.run(untimed, adapters, rounds, &notify.(%{&1 | number: first + &1.number, total: total}))

    Progress.finish()
    {times ++ more, skipped ++ also_skipped, others_text(others)}
  end

  # The queues do not suffer alike: two cores that are never free together spare the ETS table its contention.
  defp others_text(nil), do: "not known"

  defp others_text(percent) when percent > 5,
    do: "had #{percent} % of the CPUs meanwhile: measure again on a quiet machine"

  defp others_text(percent), do: "had #{percent} % of the CPUs meanwhile"

  defp report(options, library, report) do
    sections = [
      Text.tables(report.tables),
      report.model && Text.model(report.model),
      Text.goals(report.tables),
      Text.skipped(report.skipped),
      "Other processes #{elem(List.last(report.facts), 1)}."
    ]

    IO.puts(sections |> Enum.reject(&(&1 in [nil, ""])) |> Enum.join("\n\n"))
    write(options.json, fn -> JsonReport.encode(report) end)
    write(options.html, fn -> HtmlReport.render(report, library) end)
    IO.puts("\n" <> Text.verdict(report.tables))
  end

  defp write(nil, _content), do: :ok

  defp write(path, content) do
    File.write!(path, content.())
    IO.puts("\nwritten: #{path}")
  end

  defp say(text, status) do
    IO.puts(text)
    status
  end

  defp fail(text, status) do
    IO.puts(:stderr, text)
    status
  end
end
