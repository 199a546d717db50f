defmodule PaymentQueue.Bench.Charts do
  @moduledoc """
  Which charts and maps of ratios the HTML report draws of a table: data only, the page's script draws.
  """

  alias PaymentQueue.Bench.{Goal, Summary}

  @typedoc "`log`: whether the axis of the values is logarithmic. A `nil` leaves a gap."
  @type chart :: %{
          title: String.t(),
          kind: :bar | :line,
          unit: String.t(),
          log: boolean(),
          labels: [String.t()],
          series: [%{name: String.t(), values: [number() | nil]}]
        }

  @typedoc "Ratios native / ets: a row for each number of producers, a column for each number of workers."
  @type ratio_map :: %{title: String.t(), columns: [String.t()], rows: [{String.t(), [number() | nil]}]}

  # Bars that differ more than this in length are drawn on a logarithmic axis.
  @log_from 30
  @most_bars 14

  @spec of(Summary.table()) :: [chart()]
  def of(%{name: :throughput, rows: rows}) do
    matrix = matrix(rows)

    for {kind, cells} <- by_kind(matrix) do
      middle = cells |> Enum.map(& &1.workers) |> Enum.uniq() |> Enum.sort() |> most_common_choice()
      shown = cells |> Enum.filter(&(&1.workers == middle)) |> Enum.sort_by(& &1.producers)
      line("#{kind}: items by producers, #{middle} workers", Enum.map(shown, &{"#{&1.producers}", &1.row}))
    end
  end

  def of(%{name: :enqueue_only, rows: rows}) do
    for {kind, group} <- group_in_order(rows, &enqueue_kind/1), kind != nil do
      line("#{kind}: enqueues by producers", Enum.map(group, &{enqueue_producers(&1), &1}))
    end
  end

  def of(%{name: :scaling, rows: rows}) do
    depths = for row <- rows, [_, depth] <- [Regex.run(~r/at depth (\d+ [KM])$/, row.name)], do: {depth, row}
    schedulers = for row <- rows, [_, count] <- [Regex.run(~r/schedulers: (\d+)$/, row.name)], do: {count, row}

    for {title, points} <- [{"items by schedulers, map 4+4", schedulers}, {"one item, by items that wait", depths}],
        points != [],
        do: line(title, points)
  end

  def of(%{name: :floors}), do: []

  # A map is small beside 4 KiB: by size and by what is held, linear axes show what a logarithmic one would hide.
  def of(%{name: :memory, rows: rows}) do
    for {{unit, held}, group} <- group_in_order(rows, &memory_kind/1) do
      %{bars(group) | title: "#{held}, in #{unit}", log: false}
    end
  end

  # One chart for each unit, for only what has one unit can stand on one axis.
  def of(%{rows: rows}) do
    for {_unit, group} <- group_in_order(rows, & &1.unit),
        chunk <- Enum.chunk_every(Enum.filter(group, &drawable?/1), @most_bars),
        chunk != [] do
      bars(chunk)
    end
  end

  @doc "The maps of ratios of the throughput table; none of others."
  @spec ratio_maps(Summary.table()) :: [ratio_map()]
  def ratio_maps(%{name: :throughput, rows: rows}) do
    for {kind, cells} <- rows |> matrix() |> by_kind() do
      workers = cells |> Enum.map(& &1.workers) |> Enum.uniq() |> Enum.sort()
      ratios = Map.new(cells, &{{&1.producers, &1.workers}, &1.row.ratio && &1.row.ratio.median})

      %{
        title: kind,
        columns: Enum.map(workers, &to_string/1),
        rows:
          for producers <- cells |> Enum.map(& &1.producers) |> Enum.uniq() |> Enum.sort() do
            {to_string(producers), Enum.map(workers, &ratios[{producers, &1}])}
          end
      }
    end
  end

  def ratio_maps(_table), do: []

  @doc "Met, missed or none of both, of a row's goals together."
  @spec verdict(Summary.row()) :: Goal.verdict() | nil
  def verdict(%{goals: goals}) do
    verdicts = Enum.map(goals, & &1.verdict)
    Enum.find([:missed, :not_measured, :met], &(&1 in verdicts))
  end

  # Two points make no line worth a chart.
  defp by_kind(cells), do: for({kind, cells} <- group_in_order(cells, & &1.kind), length(cells) > 2, do: {kind, cells})

  defp matrix(rows) do
    for row <- rows, [_, kind, producers, workers] <- [Regex.run(~r/^(.+) (\d+)\+(\d+)$/, row.name)] do
      %{kind: kind, producers: String.to_integer(producers), workers: String.to_integer(workers), row: row}
    end
  end

  defp most_common_choice(workers), do: if(4 in workers, do: 4, else: hd(workers))

  defp enqueue_kind(row), do: with([_, kind] <- Regex.run(~r/^enqueue (.+), \d+ producers?$/, row.name), do: kind)
  defp enqueue_producers(row), do: ~r/(\d+) producers?$/ |> Regex.run(row.name) |> List.last()

  defp line(title, points) do
    {labels, rows} = Enum.unzip(points)
    chart(title, :line, labels, rows)
  end

  defp bars(rows), do: chart("in #{hd(rows).unit}", :bar, Enum.map(rows, & &1.name), rows)

  defp memory_kind(%{unit: unit, name: name}) do
    {unit, Enum.find(["queued 4 KiB", "in flight", "process heap", "queued"], &String.contains?(name, &1))}
  end

  defp chart(title, kind, labels, rows) do
    series = series(rows)

    %{
      title: title,
      kind: kind,
      unit: hd(rows).unit,
      log: log?(series),
      labels: labels,
      series: series
    }
  end

  # Native first, the floor last.
  defp series(rows) do
    queues = for {name, _spread} <- hd(rows).queues, do: name

    queues =
      for name <- Enum.reverse(queues) do
        %{name: name, values: for(row <- rows, do: row.queues |> List.keyfind(name, 0) |> elem(1) |> median())}
      end

    floor = %{name: "floor", values: for(row <- rows, do: row.floor && median(row.floor.value))}
    Enum.reject(queues ++ [floor], fn %{values: values} -> Enum.all?(values, &is_nil/1) end)
  end

  defp log?(series) do
    positive = for %{values: values} <- series, value <- values, is_number(value) and value > 0, do: value
    positive != [] and Enum.max(positive) / Enum.min(positive) > @log_from
  end

  defp drawable?(row), do: Enum.any?(row.queues, fn {_name, spread} -> spread != nil and spread.median > 0 end)

  defp median(nil), do: nil
  defp median(%{median: median}), do: median

  defp group_in_order(list, key) do
    groups = Enum.group_by(list, key)
    for name <- list |> Enum.map(key) |> Enum.uniq(), do: {name, groups[name]}
  end
end
