defmodule PaymentQueue.Bench.HtmlReport do
  @moduledoc """
  The report as one HTML file that needs nothing else: its tables are there without JavaScript, the charts are drawn by the
  library that is embedded.
  """

  require EEx

  alias PaymentQueue.JSON
  alias PaymentQueue.Bench.{ChartLibrary, Charts, JsonReport, Numbers, Summary, Text}

  @page Path.join(__DIR__, "page.html.eex")
  @style Path.join(__DIR__, "page.css")
  @script Path.join(__DIR__, "page.js")
  @external_resource @style
  @external_resource @script
  @css File.read!(@style)
  @js File.read!(@script)

  EEx.function_from_file(:defp, :page, @page, [:report, :library, :css, :js, :charts, :verdict, :judged], trim: true)

  @spec render(JsonReport.report(), ChartLibrary.t()) :: String.t()
  def render(report, library) do
    library = %{library | source: inline(library.source)}
    charts = report.tables |> charts() |> JSON.encode!() |> IO.iodata_to_binary() |> escape_script()
    page(report, library, @css, @js, charts, Text.verdict(report.tables), Summary.judged(report.tables))
  end

  # By the id of the element that a chart goes into.
  defp charts(tables) do
    for table <- tables, {chart, index} <- Enum.with_index(Charts.of(table)), into: %{} do
      {"#{table.name}-#{index}", chart}
    end
  end

  # Nothing that is embedded may end the element it stands in.
  defp inline(source), do: String.replace(source, "</script", "<\\/script")

  @doc "JSON as it may stand in a script element."
  @spec escape_script(String.t()) :: String.t()
  def escape_script(json), do: String.replace(json, "<", "\\u003c")

  @doc "Text as it may stand in HTML."
  @spec escape(String.t()) :: String.t()
  def escape(text) do
    text
    |> String.replace("&", "&amp;")
    |> String.replace("<", "&lt;")
    |> String.replace(">", "&gt;")
    |> String.replace("\"", "&quot;")
  end

  defp queue(row, name), do: row.queues |> List.keyfind(name, 0) |> elem(1)

  defp cell(spread), do: with_range(spread, &Numbers.text/1)

  defp ratio(spread), do: with_range(spread, &Numbers.times/1)

  # A range whose ends are written alike says nothing.
  defp with_range(nil, _write), do: "–"

  defp with_range(%{median: median, min: min, max: max}, write) do
    case {Numbers.text(min), Numbers.text(max)} do
      {same, same} -> write.(median)
      {min, max} -> "#{write.(median)} <small>#{min}…#{max}</small>"
    end
  end

  defp share(%{share: %{median: share}} = floor),
    do: ~s(<span title="#{escape(floor.name)}">#{Numbers.percent(share)}</span>)

  defp share(_none), do: "–"

  defp goals?(table), do: Enum.any?(table.rows, &(&1.goals != []))

  defp goals(row) do
    Enum.map_join(row.goals, "<br>", fn goal -> ~s(<span class="#{goal.verdict}">#{escape(goal.text)}</span>) end)
  end

  # White at the same speed, blue where native is faster, red where it is slower; eight times is full colour.
  defp colour(nil), do: "transparent"

  defp colour(ratio) do
    strength = min(abs(:math.log2(max(ratio, 0.01))) / 3, 1.0) * 0.75
    hue = if ratio >= 1, do: "37 99 235", else: "220 38 38"
    "rgb(#{hue} / #{:erlang.float_to_binary(strength / 1, decimals: 2)})"
  end

  defp reading(%{rows: rows}) do
    case rows |> Enum.map(& &1.better) |> Enum.uniq() do
      [:higher] -> "More is better."
      [:lower] -> "Less is better."
      _both -> "Of rates more is better, of times and sizes less."
    end
  end
end
