defmodule PaymentsApi.Demo.Report do
  @moduledoc "The table at the end of a run, and its last line, which is for programs too."

  alias PaymentsApi.{Histogram, Ledger}
  alias PaymentsApi.Demo.{Text, Verdict}

  @label 44
  @column 18

  @spec table(Verdict.t(), Histogram.snapshot()) :: iodata()
  def table(verdict, latencies) do
    [
      requests(verdict, latencies),
      payments(verdict),
      deliveries(verdict.counts, verdict),
      processors(verdict),
      account(verdict.account),
      faults(Verdict.faults(verdict))
    ]
  end

  @spec last_line(Verdict.t()) :: String.t()
  def last_line(%{counts: counts, paid: {settled, _}, dead: {dead, _}} = verdict) do
    "accepted #{counts.accepted}, settled #{settled}, dead #{dead}, lost #{Verdict.lost(verdict)}"
  end

  defp requests(%{counts: counts, load: load}, latencies) do
    [
      head("requests", "number"),
      row("answered 204, accepted", counts.accepted),
      row("answered 503, no room or closed", counts.refused),
      row("answered 400 or 413", counts.rejected),
      witness(load),
      row("POST took, on the server, p50", duration(latencies, 50)),
      row("p90", duration(latencies, 90)),
      row("p99", duration(latencies, 99)),
      row("p99.9", duration(latencies, 99.9))
    ]
  end

  defp witness({:ok, load}) do
    [row("204 as counted by #{load.by}", load.accepted), row("other answers as counted by #{load.by}", load.refused)]
  end

  defp witness(_none), do: []

  defp payments(%{counts: counts, paid: {settled, paid}, dead: {dead, given_up}} = verdict) do
    [
      head("payments", "number", "amount"),
      row("accepted", counts.accepted, counts.accepted_cents),
      row("settled", settled, paid),
      row("dead letters, declined or given up", dead, given_up),
      row("lost", Verdict.lost(verdict), counts.accepted_cents - paid - given_up)
    ]
  end

  defp deliveries(counts, verdict) do
    [
      head("deliveries", "number"),
      row("workers killed", counts.kills),
      row("tried again after an error", counts.retries),
      row("handled again after a kill", counts.again),
      row("of all these, deduplicated by a processor", counts.deduplicated),
      row("sent twice by the client", counts.repeated),
      row("with two workers at once", counts.overlapped),
      row("delivered again after the ack", counts.redelivered),
      row("paid twice", verdict.paid_twice)
    ]
  end

  defp processors(verdict) do
    rows = for name <- Ledger.processors(), %{count: n, cents: cents} = verdict.charged[name], do: row(name, n, cents)
    unknown = Verdict.charged_unknown(verdict)

    [
      head("charged by the processors", "number", "amount"),
      rows,
      row("charged, but no worker lived to say so", unknown),
      row("accepted, neither charged nor dead", "", Verdict.missing_cents(verdict))
    ]
  end

  defp account(account) do
    [head("the queue's own count", "number") | for({key, n} <- Enum.sort(account), do: row(key, n))]
  end

  defp faults([]), do: "\n"
  defp faults(faults), do: ["\n", for(fault <- faults, do: "WRONG: #{fault}\n"), "\n"]

  defp head(title, column), do: ["\n", line(title, [column])]
  defp head(title, first, second), do: ["\n", line(title, [first, second])]

  defp row(label, n), do: line("  #{label}", [number(n)])
  defp row(label, n, cents), do: line("  #{label}", [number(n), Text.money(cents)])

  defp line(label, cells) do
    [String.pad_trailing(label, @label), Enum.map(cells, &String.pad_leading(&1, @column)), "\n"]
  end

  defp number(n) when is_integer(n), do: Text.count(n)
  defp number(text), do: text

  defp duration(latencies, percent), do: latencies |> Histogram.percentile(percent) |> Text.duration()
end
