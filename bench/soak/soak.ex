defmodule PaymentQueue.Soak do
  @moduledoc """
  Runs all kinds of queue under random operations and checks the laws of the library by a ledger of its own. bench/soak/README.md
  says what is checked, and what the last long run has found.
  """

  alias PaymentQueue.Bench.Machine
  alias PaymentQueue.Soak.{Kind, Options, Report, Run}

  @doc "Runs with these command line arguments and returns the exit status."
  @spec main([String.t()]) :: 0..2
  def main(argv) do
    case Options.parse(argv) do
      {:run, options} ->
        run(options)

      :help ->
        IO.puts(Options.usage())
        0

      {:error, problem} ->
        IO.puts(:stderr, "#{problem}\n\n#{Options.usage()}")
        2
    end
  end

  defp run(options) do
    {kinds, missing} = Enum.split_with(options.kinds, &(Kind.missing(&1) == nil))
    IO.puts(Report.header(Machine.facts(), options))
    for kind <- missing, do: IO.puts("skipped, because #{Kind.missing(kind)}: #{kind.name}")

    if kinds == [] do
      IO.puts(:stderr, "no kind of queue is left to run")
      2
    else
      result = Run.run(%{options | kinds: kinds}, &IO.puts(Report.line(&1)))
      IO.puts(Report.result(result, options))
      if result.violations == [], do: 0, else: 1
    end
  end
end
