defmodule PaymentQueue.Soak.Report do
  @moduledoc "What a soak prints. The tables are Markdown, so that they can stand in a document as they are."

  alias PaymentQueue.Soak.{Kind, Options, Run, Vitals}

  @mib 1_048_576

  @columns [
    {"calls", [:calls]},
    {"accepted", [:enqueued]},
    {"calls refused", [:full, :closed, :duplicate, :too_large]},
    {"deliveries", [:delivered]},
    {"settled", [:settled]},
    {"redelivered", [:redelivered]},
    {"died", [:dead, :dead_dropped, :requeued]},
    {"purged", [:purged]},
    {"late acks refused", [:late_stale]},
    {"steps", [:steps]},
    {"kills", [:kills]},
    {"restarts", [:restarts]},
    {"reopened", [:reopened]}
  ]

  @doc "The machine, the seed, the time."
  @spec header([{String.t(), String.t()}], Options.t()) :: String.t()
  def header(facts, options) do
    facts = facts ++ [{"seed", "#{options.seed}"}, {"time", minutes(options.ms)}]
    Enum.map_join(facts, "\n", fn {label, value} -> String.pad_trailing(label, 9) <> value end)
  end

  @doc "One line of a round."
  @spec line(Run.round()) :: String.t()
  def line(round) do
    sum = fn keys -> round.findings |> Enum.map(&total(Map.merge(&1.counts, &1.changes), keys)) |> Enum.sum() end
    slowest = Enum.max_by(round.findings, & &1.rest_ms, fn -> %{rest_ms: 0, kind: :none} end)

    "round #{round.number}, #{clock(round.elapsed_ms)}: accepted #{sum.([:enqueued])}, settled #{sum.([:settled])}, " <>
      "redelivered #{sum.([:redelivered])}, kills #{sum.([:kills])}, at rest after #{slowest.rest_ms} ms (#{slowest.kind}), " <>
      "RSS #{mib(round.vitals.rss)} MiB" <> if(round.violations == [], do: "", else: ", VIOLATED")
  end

  @doc "The tables and the verdict."
  @spec result(Run.result(), Options.t()) :: String.t()
  def result(result, options) do
    Enum.join(["", kinds(result), "", vitals(result), "", verdict(result, options)], "\n")
  end

  defp kinds(result) do
    rows =
      for name <- Run.kinds(result), totals = result.totals[name] do
        [name | for({_title, keys} <- @columns, do: thousands(total(totals, keys)))]
      end

    table(["kind" | Enum.map(@columns, &elem(&1, 0))], rows)
  end

  defp total(totals, keys), do: keys |> Enum.map(&Map.get(totals, &1, 0)) |> Enum.sum()

  defp vitals(%{vitals: vitals} = result) do
    first = Enum.take(vitals, Vitals.warm_up())

    rows =
      for {key, slack} <- Vitals.slack(), hd(vitals)[key] != nil do
        most = fn readings -> readings |> Enum.map(& &1[key]) |> Enum.max() end
        values = [most.(first), List.last(vitals)[key], most.(vitals), slack]
        [title(key) | Enum.map(values, &shown(key, &1))]
      end

    heading = ["at quiet points", "most in the first #{length(first)} rounds", "in the last", "most", "slack"]

    table(heading, rows) <>
      "\n\nThe most that the VM ever had resident: #{mib(result.peak)} MiB.#{trend(Enum.drop(vitals, Vitals.warm_up()), result)}"
  end

  defp title(:rss), do: "resident memory, MiB"
  defp title(:memory), do: "memory of all queues (info), MiB"
  defp title(:disk), do: "files of the durable queues, MiB"
  defp title(:fds), do: "open files"
  defp title(:monitors), do: "native monitors of one process"
  defp title(key), do: to_string(key)

  defp shown(key, value) when key in [:rss, :memory, :disk], do: mib(value)
  defp shown(_key, value), do: thousands(value)

  # The line through the readings after the warm-up that has the least squares.
  defp trend(readings, result) when length(readings) >= 10 do
    hours = result.elapsed_ms / 3_600_000 / result.rounds
    points = for {%{rss: rss}, n} <- Enum.with_index(readings), rss != nil, do: {n * hours, rss / @mib}
    {mean_x, mean_y} = {mean(Enum.map(points, &elem(&1, 0))), mean(Enum.map(points, &elem(&1, 1)))}
    over = Enum.sum(for {x, y} <- points, do: (x - mean_x) * (y - mean_y))
    under = Enum.sum(for {x, _y} <- points, do: (x - mean_x) * (x - mean_x))
    " Its trend at quiet points: #{Float.round(over / under, 1)} MiB per hour."
  end

  defp trend(_readings, _result), do: ""

  defp mean(numbers), do: Enum.sum(numbers) / length(numbers)

  defp verdict(%{violations: []} = result, options) do
    grown =
      if length(result.vitals) > Vitals.warm_up(),
        do: "Nothing has grown beyond its slack.",
        else: "Too short to say whether anything grows: that takes more than #{Vitals.warm_up()} rounds."

    accepted = result.totals |> Map.values() |> Enum.map(& &1.enqueued) |> Enum.sum()

    "#{grown}\nsoak: PASSED: #{thousands(accepted)} accepted items, 0 lost, 0 settled twice, every law held at each of " <>
      "#{result.rounds} quiet points (#{minutes(result.elapsed_ms)}, seed #{options.seed})"
  end

  defp verdict(result, options) do
    lines = for {where, law, text} <- result.violations, do: "#{where}: #{law}: #{text}"
    command = "bin/soak --seed #{options.seed} --minutes #{Float.round(options.ms / 60_000, 2)}#{only(options.kinds)}"
    Enum.join(lines, "\n") <> "\nsoak: FAILED in round #{result.rounds}, seed #{options.seed}: #{command}"
  end

  defp only(kinds), do: if(kinds == Kind.all(), do: "", else: Enum.map_join(kinds, &" --only #{&1.name}"))

  # --- text ----------------------------------------------------------------------------------------------------------

  defp table(heading, rows) do
    row = fn cells -> "| " <> Enum.join(cells, " | ") <> " |" end
    rule = "|---|" <> String.duplicate("---:|", length(heading) - 1)
    Enum.join([row.(heading), rule | Enum.map(rows, row)], "\n")
  end

  defp thousands(n) when n < 0, do: "-" <> thousands(-n)
  defp thousands(n), do: n |> to_string() |> String.replace(~r/(?<=\d)(?=(\d{3})+$)/, ",")

  defp mib(nil), do: "?"
  defp mib(bytes), do: :erlang.float_to_binary(bytes / @mib, decimals: 1)

  defp minutes(ms) when ms < 60_000, do: "#{Float.round(ms / 1_000, 1)} s"
  defp minutes(ms), do: "#{Float.round(ms / 60_000, 1)} min"

  defp clock(ms), do: "#{div(ms, 60_000)}:#{ms |> div(1_000) |> rem(60) |> to_string() |> String.pad_leading(2, "0")}"
end
