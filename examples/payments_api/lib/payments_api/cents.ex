defmodule PaymentsApi.Cents do
  @moduledoc """
  Amounts of money as whole cents.

  JSON numbers with a decimal point reach us as floats, and floats must not be calculated with: `19.90 * 100` is
  `1989.9999999999998`. So a float is only ever *printed*, with the fewest digits that identify it, and those digits are
  read as a decimal. Every decimal of up to 15 significant digits survives the way through a double, and an amount below
  `max/0` has at most 12, so what comes out is what the client wrote.
  """

  @max 999_999_999_999

  @doc "The largest amount that is accepted, in cents."
  @spec max() :: pos_integer()
  def max, do: @max

  @doc """
  A decoded JSON number in cents, or why it is none.

      iex> PaymentsApi.Cents.from_json(19.9)
      {:ok, 1990}
      iex> PaymentsApi.Cents.from_json(0.001)
      {:error, "amount must have at most 2 decimals"}
  """
  @spec from_json(term()) :: {:ok, pos_integer()} | {:error, String.t()}
  def from_json(amount) when is_integer(amount), do: in_range(amount * 100)
  def from_json(amount) when is_float(amount), do: amount |> digits() |> shift()
  def from_json(_other), do: {:error, "amount must be a number"}

  @doc """
  Cents as a decimal with two places, which is also a JSON number.

      iex> PaymentsApi.Cents.format(1990)
      "19.90"
  """
  @spec format(integer()) :: String.t()
  def format(cents) when cents < 0, do: "-" <> format(-cents)

  def format(cents) do
    "#{div(cents, 100)}.#{cents |> rem(100) |> Integer.to_string() |> String.pad_leading(2, "0")}"
  end

  # 19.9 is {199, -1}: all digits as an integer, and the power of ten to multiply it with.
  defp digits(float) do
    {mantissa, exponent} = split(:erlang.float_to_binary(float, [:short]), "e", "0")
    {whole, fraction} = split(mantissa, ".", "")
    {String.to_integer(whole <> fraction), String.to_integer(exponent) - byte_size(fraction)}
  end

  defp split(text, separator, default) do
    case :binary.split(text, separator) do
      [left, right] -> {left, right}
      [left] -> {left, default}
    end
  end

  # The same digits in cents: two places further.
  defp shift({digits, exponent}) when exponent >= -2, do: in_range(digits * Integer.pow(10, exponent + 2))

  defp shift({digits, exponent}) do
    divisor = Integer.pow(10, -exponent - 2)

    if rem(digits, divisor) == 0,
      do: in_range(div(digits, divisor)),
      else: {:error, "amount must have at most 2 decimals"}
  end

  defp in_range(cents) when cents <= 0, do: {:error, "amount must be greater than 0"}
  defp in_range(cents) when cents > @max, do: {:error, "amount must be at most #{format(@max)}"}
  defp in_range(cents), do: {:ok, cents}
end
