defmodule PaymentQueue.Bench.Progress do
  @moduledoc """
  The progress on standard error: a bar that is drawn over on a terminal, a line every five percent elsewhere.
  """

  @type step :: %{number: pos_integer(), total: pos_integer(), what: String.t()}

  @width 24
  @plain_percent 5

  @doc "A function to be called before each step."
  @spec start() :: (step() -> :ok)
  def start do
    started = System.monotonic_time(:second)
    columns = terminal_columns()
    fn step -> show(step, System.monotonic_time(:second) - started, columns) end
  end

  @doc "Leaves the terminal's line empty for what comes next."
  @spec finish() :: :ok
  def finish, do: if(terminal_columns(), do: IO.write(:stderr, "\r\e[K"), else: :ok)

  defp show(step, seconds, nil) do
    if plain?(step), do: IO.puts(:stderr, line(step, seconds)), else: :ok
  end

  defp show(step, seconds, columns) do
    IO.write(:stderr, ["\r\e[K", step |> line(seconds) |> String.slice(0, columns - 1)])
  end

  defp plain?(%{number: 1}), do: true

  defp plain?(step),
    do: div(percent(step), @plain_percent) > div(percent(%{step | number: step.number - 1}), @plain_percent)

  @doc "One line: bar, percent, time since the start, and what is being done."
  @spec line(step(), seconds :: non_neg_integer()) :: String.t()
  def line(step, seconds) do
    full = div(@width * (step.number - 1), step.total)
    bar = String.duplicate("█", full) <> String.duplicate("░", @width - full)
    clock = "#{div(seconds, 60)}:#{seconds |> rem(60) |> to_string() |> String.pad_leading(2, "0")}"
    "#{bar} #{String.pad_leading(to_string(percent(step)), 3)} %  #{clock}  #{step.what}"
  end

  # Of what is done: the step that is shown has only begun.
  defp percent(step), do: div(100 * (step.number - 1), step.total)

  defp terminal_columns do
    case :io.columns(:standard_error) do
      {:ok, columns} -> columns
      {:error, :enotsup} -> nil
    end
  end
end
