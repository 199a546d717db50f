defmodule PaymentsApi.Demo.Text do
  @moduledoc "Numbers for people."

  alias PaymentsApi.Cents

  @doc ~S(`1234567` is "1,234,567".)
  @spec count(integer()) :: String.t()
  def count(n) when n < 0, do: "-" <> count(-n)
  def count(n), do: n |> Integer.to_string() |> group()

  @doc ~S(`123456789` cents are "1,234,567.89".)
  @spec money(integer()) :: String.t()
  def money(cents) when cents < 0, do: "-" <> money(-cents)

  def money(cents) do
    [whole, fraction] = cents |> Cents.format() |> String.split(".")
    group(whole) <> "." <> fraction
  end

  @doc "Microseconds in the unit that fits."
  @spec duration(non_neg_integer() | nil) :: String.t()
  def duration(nil), do: "-"
  def duration(us) when us < 1_000, do: "#{us} µs"
  def duration(us) when us < 10_000, do: "#{Float.round(us / 1_000, 1)} ms"
  def duration(us) when us < 1_000_000, do: "#{div(us, 1_000)} ms"
  def duration(us), do: "#{Float.round(us / 1_000_000, 1)} s"

  defp group(digits), do: String.replace(digits, ~r/\B(?=(\d{3})+$)/, ",")
end
