defmodule PaymentQueue.Bench.Text do
  @moduledoc """
  The report in the terminal: one table for each subject, ratios first, then the goals.
  """

  alias PaymentQueue.Bench.{Model, Numbers, Runner, Summary}

  @verdicts %{met: "met", missed: "MISSED", not_measured: "not measured"}

  @doc "Label and value of each line of the header."
  @spec header([{String.t(), String.t()}]) :: String.t()
  def header(facts) do
    width = facts |> Enum.map(fn {label, _} -> String.length(label) end) |> Enum.max()
    Enum.map_join(facts, "\n", fn {label, value} -> "#{String.pad_trailing(label, width)}  #{value}" end)
  end

  @doc "All tables."
  @spec tables([Summary.table()]) :: String.t()
  def tables(tables), do: Enum.map_join(tables, "\n\n", &section/1)

  defp section(table) do
    queues = for {name, _spread} <- hd(table.rows).queues, do: name
    head = ["", "native/ets", "spread"] ++ Enum.reverse(queues) ++ ["floor", "of the floor"]
    "#{table.title}\n#{table.note}\n\n#{grid([head | Enum.map(table.rows, &line/1)])}"
  end

  # Native first: what is read first is what it is about.
  defp line(row) do
    medians = for {_name, spread} <- Enum.reverse(row.queues), do: Numbers.text(spread && spread.median)

    ["#{row.name} [#{row.unit}]", Numbers.times(row.ratio && row.ratio.median), spread(row.ratio)] ++
      medians ++ [Numbers.text(row.floor && row.floor.value.median), share(row.floor)]
  end

  defp share(%{share: %{median: share}}), do: Numbers.percent(share)
  defp share(_none), do: "-"

  defp spread(nil), do: "-"
  defp spread(%{min: same, max: same}), do: "-"
  defp spread(%{min: min, max: max}), do: "#{Numbers.text(min)}..#{Numbers.text(max)}"

  @doc "The table of the goals, with what was measured."
  @spec goals([Summary.table()]) :: String.t()
  def goals(tables) do
    rows =
      for row <- Summary.judged(tables), goal <- row.goals do
        [row.name, measured(row, goal), goal.text, @verdicts[goal.verdict]]
      end

    if rows == [], do: "", else: "Goals\n\n" <> grid([["", "measured", "goal", ""] | rows])
  end

  @doc "What a goal is about, as it was measured."
  @spec measured(Summary.row(), %{of: :ratio | :value | :share}) :: String.t()
  def measured(row, %{of: :ratio}), do: Numbers.times(row.ratio && row.ratio.median)
  def measured(row, %{of: :share}), do: share(row.floor)

  def measured(row, %{of: :value}) do
    {"native", ours} = List.keyfind(row.queues, "native", 0)
    "#{Numbers.text(ours && ours.median)} #{row.unit}"
  end

  @doc "The model of more cores."
  @spec model(Model.t()) :: String.t()
  def model(model) do
    head = ["cores" | Enum.map(model.cores, &"#{&1}")]

    rows =
      for {name, estimates} <- model.queues do
        [name | for(%{low: low, high: high} <- estimates, do: "#{Numbers.text(low)} to #{Numbers.text(high)}")]
      end

    "Model of more cores\n#{model.note}\n\n#{grid([head | rows])}"
  end

  @doc "What was not measured, and why."
  @spec skipped([Runner.skip()]) :: String.t()
  def skipped(skipped),
    do: Enum.map_join(skipped, "\n", fn {cell, reason} -> "NOT MEASURED: #{cell.name}: #{reason}" end)

  @doc "One line: how many goals were met."
  @spec verdict([Summary.table()]) :: String.t()
  def verdict(tables) do
    verdicts = for row <- Summary.judged(tables), goal <- row.goals, do: {goal.verdict, row.name}
    missed = for {:missed, name} <- verdicts, do: name
    met = Enum.count(verdicts, &match?({:met, _}, &1))

    case {verdicts, missed} do
      {[], []} ->
        "Nothing that was measured has a goal."

      {_, []} ->
        "All results are right; #{met} of #{length(verdicts)} goals are met."

      {_, missed} ->
        "All results are right; #{met} of #{length(verdicts)} goals are met, missed: #{Enum.join(missed, "; ")}."
    end
  end

  @doc "Rows of cells as aligned columns; the first row is the head."
  @spec grid([[String.t()]]) :: String.t()
  def grid(rows) do
    widths = Enum.zip_with(rows, fn column -> column |> Enum.map(&String.length/1) |> Enum.max() end)
    [first | rest] = Enum.map(rows, &aligned(&1, widths))
    Enum.join([first, Enum.map_join(widths, "-|-", &String.duplicate("-", &1)) | rest], "\n")
  end

  defp aligned([label | numbers], [width | widths]) do
    padded = Enum.zip_with(numbers, widths, &String.pad_leading/2)
    Enum.join([String.pad_trailing(label, width) | padded], " | ")
  end
end
