defmodule PaymentQueue.Bench.JsonReport do
  @moduledoc """
  The report for programs. Its schema, `payment_queue.bench/1`; a change that would break a reader gets another number:

      {
        "schema": "payment_queue.bench/1",
        "facts": {"machine": text, "OTP": text, "commit": text, ...},
        "tables": [{
          "name": text, "title": text, "note": text,
          "rows": [{
            "cell": text, "name": text, "unit": text, "better": "higher" | "lower",
            "queues": {"genserver": SPREAD, "ets": SPREAD, "native": SPREAD},
            "ratio": SPREAD,                       native / ets
            "floor": null | {"name": text, "value": SPREAD, "share": SPREAD},     share: 1 is all of the floor's speed
            "goals": [{"of": "ratio" | "value" | "share", "text": text, "verdict": "met" | "missed" | "not_measured"}]
          }]
        }],
        "model": null | {"note": text, "cores": [number], "queues": {name: [{"low": number, "high": number}]}},
        "not_measured": [{"cell": text, "reason": text}],
        "verdict": text
      }

  SPREAD is `null` or `{"median": number, "min": number, "max": number, "rounds": [number]}`, in the row's unit.
  """

  alias PaymentQueue.JSON
  alias PaymentQueue.Bench.{Model, Runner, Summary, Text}

  @schema "payment_queue.bench/1"

  @type report :: %{
          facts: [{String.t(), String.t()}],
          tables: [Summary.table()],
          model: Model.t() | nil,
          skipped: [Runner.skip()]
        }

  @spec schema() :: String.t()
  def schema, do: @schema

  @spec encode(report()) :: iodata()
  def encode(report), do: [report |> content() |> JSON.encode!(), ?\n]

  @doc "What is encoded."
  @spec content(report()) :: JSON.value()
  def content(report) do
    %{
      schema: @schema,
      facts: Map.new(report.facts),
      tables: Enum.map(report.tables, &%{&1 | rows: Enum.map(&1.rows, fn row -> row(row) end)}),
      model: report.model && model(report.model),
      not_measured: for({cell, reason} <- report.skipped, do: %{cell: cell.name, reason: reason}),
      verdict: Text.verdict(report.tables)
    }
  end

  defp row(row), do: %{row | queues: Map.new(row.queues)}

  defp model(model), do: %{model | queues: Map.new(model.queues)}
end
