defmodule PaymentQueue.Bench.ReportTest do
  use ExUnit.Case, async: true

  alias PaymentQueue.Bench.{Cell, Charts, Core, HtmlReport, JsonReport, Model, Numbers, Schedulers, Text, Wrk}

  defp spread(numbers) do
    %{median: Enum.at(Enum.sort(numbers), 1), min: Enum.min(numbers), max: Enum.max(numbers), rounds: numbers}
  end

  defp row(name, overrides \\ %{}) do
    Map.merge(
      %{
        cell: name,
        name: name,
        unit: "M items/s",
        better: :higher,
        queues: [{"genserver", nil}, {"ets", spread([1.0, 1.1, 1.2])}, {"native", spread([4.0, 4.4, 4.8])}],
        ratio: spread([3.9, 4.0, 4.1]),
        floor: %{name: "encode <&> decode", value: spread([5.0, 5.5, 6.0]), share: spread([0.7, 0.8, 0.9])},
        goals: []
      },
      overrides
    )
  end

  defp report do
    goals = [
      %{of: :ratio, text: "≥ 8× ets (stretch 10×)", verdict: :missed},
      %{of: :share, text: "≥ 60 % of the floor", verdict: :met}
    ]

    matrix = for producers <- [1, 4], workers <- [1, 4], do: row("map #{producers}+#{workers}")

    schedulers =
      for {count, rate} <- [{1, 1.0}, {2, 1.6}] do
        row(Schedulers.row_name(count), %{
          queues: [{"genserver", nil}, {"ets", nil}, {"native", spread([rate, rate, rate])}]
        })
      end

    tables = [
      %{
        name: :throughput,
        title: "Throughput",
        note: "By \"producers\".",
        rows: [row("batch", %{goals: goals}) | matrix]
      },
      %{name: :scaling, title: "Scaling", note: "", rows: schedulers}
    ]

    %{
      facts: [{"machine", "a <fast> one"}, {"OTP", "25"}],
      tables: tables,
      model: Model.of(tables),
      skipped: [{%Cell{name: "load", table: :load, rows: [], measure: &{&1, &2}}, "no wrk"}]
    }
  end

  test "the text has ratios first, what is missing, and every goal with its verdict" do
    text = Text.tables(report().tables)
    [head | _] = text |> String.split("\n") |> Enum.filter(&(&1 =~ "native/ets"))

    assert head |> String.split("|") |> Enum.map(&String.trim/1) |> Enum.take(4) == [
             "",
             "native/ets",
             "spread",
             "native"
           ]

    assert text =~ ~r/batch \[M items\/s\] .*4\.00× .*3\.90\.\.4\.10 .*4\.40 .*1\.10 .*- .*5\.50 .*80 %/
    goals = Text.goals(report().tables)
    assert goals =~ ~r/batch .*4\.00× .*≥ 8× ets \(stretch 10×\) .*MISSED/
    assert goals =~ ~r/batch .*80 % .*≥ 60 % of the floor .*met/
    assert Text.verdict(report().tables) == "All results are right; 1 of 2 goals are met, missed: batch."
    assert Text.skipped(report().skipped) == "NOT MEASURED: load: no wrk"
  end

  test "numbers have three digits that count" do
    written = for n <- [0, 0.01234, 1.239, 12.39, 123.9, 12_345.6, 1_234_567], do: Numbers.text(n)
    assert written == ["0", "0.012", "1.24", "12.4", "124", "12 346", "1 234 567"]
    assert Numbers.percent(0.4567) == "46 %"
    assert Numbers.percent(0.01234) == "1.2 %"
  end

  describe "JSON" do
    test "cannot end the script that it stands in" do
      refute HtmlReport.escape_script(~s({"a":"</script><!--"})) =~ "<"
    end

    test "of a report follows its schema" do
      content = report() |> JsonReport.encode() |> PaymentQueue.JsonReader.decode!()

      assert %{"schema" => "payment_queue.bench/1", "facts" => %{"OTP" => "25"}, "verdict" => verdict} = content
      assert verdict =~ "1 of 2 goals"
      assert content["not_measured"] == [%{"cell" => "load", "reason" => "no wrk"}]
      assert [%{"name" => "throughput", "title" => _, "note" => _, "rows" => rows}, _scaling] = content["tables"]

      for row <- rows do
        assert Enum.sort(Map.keys(row)) == ~w(better cell floor goals name queues ratio unit)
        assert row["better"] in ["higher", "lower"]
        assert %{"median" => 4.4, "min" => 4.0, "max" => 4.8, "rounds" => [_, _, _]} = row["queues"]["native"]
        assert row["queues"]["genserver"] == nil
        assert %{"name" => _, "value" => %{"median" => 5.5}, "share" => %{"median" => 0.8}} = row["floor"]
      end

      assert [%{"of" => "ratio", "text" => _, "verdict" => "missed"}, %{"verdict" => "met"}] = hd(rows)["goals"]

      assert %{"cores" => [4, 8, 16], "note" => note, "queues" => %{"native" => [%{"low" => _, "high" => _} | _]}} =
               content["model"]

      assert note =~ "model"
    end
  end

  test "the HTML stands alone, has every number without JavaScript, and escapes what it shows" do
    library = %{name: "Chart.js 0", licence: "MIT", source: "let a = '</script>'"}
    html = HtmlReport.render(report(), library)

    refute html =~ ~r/(src|href)="(http|\/\/)/
    assert html =~ "a &lt;fast&gt; one"
    assert html =~ "By &quot;producers&quot;."
    assert html =~ "let a = '<\\/script>'"
    assert length(Regex.scan(~r/<script>/, html)) == 2 and length(Regex.scan(~r/<\/script>/, html)) == 2
    for name <- ["batch", "map 1+1", "map 4+4"], do: assert(html =~ ~r/<th>#{Regex.escape(name)} /)
    assert html =~ "Not measured: load: no wrk"

    for table <- report().tables, {_chart, index} <- Enum.with_index(Charts.of(table)) do
      assert html =~ ~s(<canvas id="#{table.name}-#{index}">)
      assert html =~ ~s("#{table.name}-#{index}":)
    end
  end

  test "the throughput's ratios are laid out by producers and workers" do
    assert [map] = report().tables |> hd() |> Charts.ratio_maps()

    assert map == %{
             title: "map",
             columns: ["1", "4"],
             rows: [{"1", [4.0, 4.0]}, {"4", [4.0, 4.0]}]
           }
  end

  test "the model is between all contention as communication and all as serial work" do
    # No contention: it scales as the law says.
    assert Model.estimates(1.0, 2.0) == [%{low: 4.0, high: 4.0}, %{low: 8.0, high: 8.0}, %{low: 16.0, high: 16.0}]
    # Two cores are as fast as one: more serial work could not be.
    assert [%{high: 1.0}, %{high: 1.0}, %{high: 1.0}] = Model.estimates(1.0, 1.0)
    for %{low: low, high: high} <- Model.estimates(1.0, 1.6), do: assert(low < high)
    assert Model.estimates(1.0, 2.4) == Model.estimates(1.0, 2.0)
    assert Model.of([]) == nil
    assert [{"native", [_, _, _]}] = report().model.queues
  end

  test "wrk's report is read, whatever its units" do
    output = """
    Running 1s test @ http://127.0.0.1:4000/payments
      1 threads and 1000 connections
      Thread Stats   Avg      Stdev     Max   +/- Stdev
        Latency    35.17ms   12.96ms 122.97ms   91.50%
        Req/Sec    28.36k     1.53k   29.95k    80.00%
      Latency Distribution
         50%   31.89ms
         75%   36.84ms
         90%   44.83ms
         99%    1.02s
      28364 requests in 1.00s, 2.08MB read
      Non-2xx or 3xx responses: 12
    Requests/sec:  28364.52
    Transfer/sec:      2.08MB
    result answered=28364 errors=12 broken=3
    """

    assert Wrk.parse!(output) ==
             %{answered: 28_364, refused: 12, broken: 3, per_second: 28_364.52, mean_ms: 35.17, p99_ms: 1020.0}

    assert_raise RuntimeError, ~r/something else: unable to connect/, fn -> Wrk.parse!("unable to connect") end
  end

  test "criterion's median is read, and not another of its numbers" do
    estimates =
      ~s({"mean":{"confidence_interval":{"upper_bound":2.0},"point_estimate":52.07,"standard_error":0.7},) <>
        ~s("median":{"confidence_interval":{"confidence_level":0.95},"point_estimate":5.1e1,"standard_error":0.8}})

    assert Core.parse_median!(estimates) == 51.0
  end
end
