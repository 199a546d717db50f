defmodule PaymentQueue.Bench.Summary do
  @moduledoc """
  From the samples of all rounds to what the reports show: medians, spread, ratios, shares of the floor, goals.

  The ratio is the median of the rounds' own ratios, each of which compares samples taken within the same round; so is the
  share of the floor.
  """

  alias PaymentQueue.Bench.{Cell, EtsAdapter, Goal, NativeAdapter, Runner, Statistics}

  @typedoc "Median, smallest and largest of the rounds, and their numbers; `nil` where there is none."
  @type spread :: %{median: number(), min: number(), max: number(), rounds: [number()]} | nil

  @typedoc """
  `ratio` is native / ets. `share` is how much of the floor's speed native reaches, 1.0 being all of it.
  """
  @type row :: %{
          cell: String.t(),
          name: String.t(),
          unit: String.t(),
          better: :higher | :lower,
          queues: [{name :: String.t(), spread()}],
          ratio: spread(),
          floor: %{name: String.t(), value: spread(), share: spread()} | nil,
          goals: [%{of: :ratio | :value | :share, text: String.t(), verdict: Goal.verdict()}]
        }

  @type table :: %{name: atom(), title: String.t(), note: String.t(), rows: [row()]}

  @doc "The tables in the order of `titles`, without those that have no results."
  @spec tables([Runner.result()], [{atom(), title :: String.t(), note :: String.t()}], [module()]) :: [table()]
  def tables(results, titles, adapters) do
    for {name, title, note} <- titles,
        rows = for({%{table: ^name} = cell, row, values} <- results, do: row(cell, row, values, adapters)),
        rows != [] do
      %{name: name, title: title, note: note, rows: rows}
    end
  end

  @doc "The rows of all tables that have goals."
  @spec judged([table()]) :: [row()]
  def judged(tables), do: for(table <- tables, row <- table.rows, row.goals != [], do: row)

  defp row(%Cell{} = cell, row, values, adapters) do
    ours = spread(values[NativeAdapter])
    ratio = if row.ratio, do: quotients(values[NativeAdapter], values[EtsAdapter])
    floor = floor(cell, row, values)
    measured = %{ratio: median(ratio), value: median(ours), share: median(floor && floor.share)}

    %{
      cell: cell.name,
      name: row.name,
      unit: row.unit,
      better: row.better,
      queues: for(adapter <- adapters, do: {adapter.name(), spread(values[adapter])}),
      ratio: ratio,
      floor: floor,
      goals:
        for goal <- row.goals do
          %{of: goal.of, text: Goal.text(goal, row.unit), verdict: Goal.judge(goal, measured)}
        end
    }
  end

  defp floor(%{floor: nil}, _row, _values), do: nil

  defp floor(cell, row, values) do
    floors = values[:floor]
    ours = values[NativeAdapter]
    # Speed either way: of a rate ours is the part, of a time the floor's.
    share = if row.better == :higher, do: quotients(ours, floors), else: quotients(floors, ours)

    case spread(floors) do
      nil -> nil
      value -> %{name: cell.floor.name, value: value, share: if(row.ratio, do: share)}
    end
  end

  defp quotients(nil, _divisors), do: nil
  defp quotients(_values, nil), do: nil

  defp quotients(values, divisors) do
    spread(for {value, divisor} <- Enum.zip(values, divisors), value && divisor && divisor > 0, do: value / divisor)
  end

  defp spread(nil), do: nil

  defp spread(values) do
    case Enum.reject(values, &is_nil/1) do
      [] -> nil
      present -> %{median: Statistics.median(present), min: Enum.min(present), max: Enum.max(present), rounds: present}
    end
  end

  defp median(nil), do: nil
  defp median(%{median: median}), do: median
end
