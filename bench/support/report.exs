defmodule PaymentQueue.Bench.Report do
  @moduledoc """
  The tables: the spread of every number, then the medians with the ratio to the ETS queue and the goal.

  The ratio is the median of the rounds' own ratios, each of which compares samples taken within the same round.
  """

  alias PaymentQueue.Bench.{Cell, Runner, Statistics}

  @type columns :: %{all: [module()], ours: module(), base: module()}

  @spec header([{String.t(), String.t()}]) :: String.t()
  def header(facts) do
    width = facts |> Enum.map(fn {label, _} -> String.length(label) end) |> Enum.max()

    Enum.map_join(facts, "\n", fn {label, value} ->
      "#{String.pad_trailing(label, width)}  #{value}"
    end)
  end

  @doc "Smallest and largest value of each queue and of the ratio."
  @spec spread([Runner.result()], columns()) :: String.t()
  def spread(results, columns) do
    head = ["name"] ++ Enum.map(columns.all, & &1.name()) ++ [ratio_name(columns)]

    rows =
      for {row, values} <- results do
        [label(row)] ++
          Enum.map(columns.all, &range(values[&1])) ++ [range(ratios(row, values, columns))]
      end

    table([head | rows])
  end

  @doc "Median of each queue, ratio, goal, and whether it was met."
  @spec medians([Runner.result()], columns()) :: String.t()
  def medians(results, columns) do
    head = ["name"] ++ Enum.map(columns.all, & &1.name()) ++ [ratio_name(columns), "goal", "met?"]

    rows =
      for {row, values} <- results do
        ours = median(values[columns.ours])
        ratio = median(ratios(row, values, columns))
        medians = Enum.map(columns.all, &number(median(values[&1])))
        [label(row)] ++ medians ++ [number(ratio), goal(row), met(row, ours, ratio)]
      end

    table([head | rows])
  end

  @doc "The names of the rows whose goal was missed."
  @spec missed([Runner.result()], columns()) :: [String.t()]
  def missed(results, columns) do
    for {row, values} <- results,
        met(row, median(values[columns.ours]), median(ratios(row, values, columns))) == "no",
        do: row.name
  end

  @spec ratios(Cell.row(), map(), columns()) :: [float()]
  defp ratios(%{ratio: false}, _values, _columns), do: []

  defp ratios(_row, values, columns) do
    for {ours, base} <- Enum.zip(values[columns.ours], values[columns.base]), ours && base, do: ours / base
  end

  defp ratio_name(columns), do: "#{columns.ours.name()}/#{columns.base.name()}"

  defp label(row), do: "#{row.name} [#{row.unit}]"

  defp median(values) do
    case Enum.reject(values, &is_nil/1) do
      [] -> nil
      present -> Statistics.median(present)
    end
  end

  defp range(values) do
    case Enum.reject(values, &is_nil/1) do
      [] -> "-"
      present -> "#{number(Enum.min(present))}..#{number(Enum.max(present))}"
    end
  end

  defp goal(%{goal: {:ratio, :at_least, bound}}), do: "≥ #{bound}×"
  defp goal(%{goal: {:ratio, :at_most, bound}}), do: "≤ #{bound}×"
  defp goal(%{goal: {:value, :at_most, bound}, unit: unit}), do: "≤ #{bound} #{unit}"
  defp goal(%{goal: {:value, :below, bound}, unit: unit}), do: "< #{bound} #{unit}"
  defp goal(_row), do: "-"

  defp met(%{goal: {:ratio, direction, bound}}, _ours, ratio), do: yes_no(direction, ratio, bound)
  defp met(%{goal: {:value, direction, bound}}, ours, _ratio), do: yes_no(direction, ours, bound)
  defp met(_row, _ours, _ratio), do: "-"

  defp yes_no(_direction, nil, _bound), do: "not measured"
  defp yes_no(:at_least, value, bound), do: if(value >= bound, do: "yes", else: "no")
  defp yes_no(:at_most, value, bound), do: if(value <= bound, do: "yes", else: "no")
  defp yes_no(:below, value, bound), do: if(value < bound, do: "yes", else: "no")

  # Three digits that count, whatever the unit.
  defp number(nil), do: "-"
  defp number(value) when abs(value) >= 100, do: "#{round(value)}"
  defp number(value) when abs(value) >= 10, do: :erlang.float_to_binary(value / 1, decimals: 1)
  defp number(value) when abs(value) >= 1, do: :erlang.float_to_binary(value / 1, decimals: 2)
  defp number(value), do: :erlang.float_to_binary(value / 1, decimals: 3)

  defp table(rows) do
    widths = Enum.zip_with(rows, fn column -> column |> Enum.map(&String.length/1) |> Enum.max() end)
    [first | rest] = Enum.map(rows, &line(&1, widths))
    Enum.join([first, Enum.map_join(widths, "-|-", &String.duplicate("-", &1)) | rest], "\n")
  end

  defp line([label | numbers], [width | widths]) do
    padded = Enum.zip_with(numbers, widths, &String.pad_leading/2)
    Enum.join([String.pad_trailing(label, width) | padded], " | ")
  end
end
