defmodule PaymentsApi.Summary do
  @moduledoc """
  The content of `GET /payments-summary`: what each processor has charged, all or from `from` to `to`, both included.

  Amounts are written from whole cents, digit by digit, so they are exact whatever their size.
  """

  alias PaymentsApi.{Cents, Ledger}

  @doc "The period that a query string asks for, in microseconds since 1970."
  @spec period(String.t()) :: {:ok, Ledger.period()} | {:error, reason :: String.t()}
  def period(query) do
    with {:ok, fields} <- decode(query),
         {:ok, from} <- time(fields, "from"),
         {:ok, to} <- time(fields, "to") do
      if from != nil and to != nil and from > to,
        do: {:error, "from must not be after to"},
        else: {:ok, {from, to}}
    end
  end

  @doc "The JSON text for a period."
  @spec content(Ledger.period()) :: iodata()
  def content(period) do
    parts = for processor <- Ledger.processors(), do: part(processor, Ledger.total(processor, period))
    ["{", Enum.intersperse(parts, ","), "}"]
  end

  defp part(processor, %{count: count, cents: cents}) do
    ~s("#{processor}":{"totalRequests":#{count},"totalAmount":#{Cents.format(cents)}})
  end

  defp decode(query) do
    {:ok, URI.decode_query(query)}
  rescue
    ArgumentError -> {:error, "the query string is malformed"}
  end

  defp time(fields, name) do
    case fields do
      %{^name => text} -> parse(text, name)
      _absent -> {:ok, nil}
    end
  end

  defp parse(text, name) do
    case DateTime.from_iso8601(text) do
      {:ok, time, 0} -> {:ok, DateTime.to_unix(time, :microsecond)}
      _other -> {:error, "#{name} must be an ISO 8601 time in UTC, such as 2025-07-10T12:34:56.000Z"}
    end
  end
end
