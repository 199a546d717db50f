defmodule PaymentQueue.Bench.Numbers do
  @moduledoc "How the reports write numbers: three digits that count, whatever the unit."

  @spec text(number() | nil) :: String.t()
  def text(nil), do: "-"
  def text(value) when abs(value) >= 10_000, do: value |> round() |> Integer.to_string() |> group()
  def text(value) when abs(value) >= 100, do: "#{round(value)}"
  def text(value) when abs(value) >= 10, do: decimals(value, 1)
  def text(value) when abs(value) >= 1, do: decimals(value, 2)
  def text(value) when value == 0, do: "0"
  def text(value), do: decimals(value, 3)

  @doc "A share as a percentage."
  @spec percent(number() | nil) :: String.t()
  def percent(nil), do: "-"
  def percent(share) when abs(share) < 0.1, do: "#{decimals(100 * share, 1)} %"
  def percent(share), do: "#{round(100 * share)} %"

  @doc "A ratio."
  @spec times(number() | nil) :: String.t()
  def times(nil), do: "-"
  def times(ratio), do: text(ratio) <> "×"

  defp decimals(value, digits), do: :erlang.float_to_binary(value / 1, decimals: digits)

  defp group(digits), do: Regex.replace(~r/(?<=\d)(?=(\d{3})+$)/, digits, " ")
end
