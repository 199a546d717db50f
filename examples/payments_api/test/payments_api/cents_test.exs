defmodule PaymentsApi.CentsTest do
  use ExUnit.Case, async: true

  alias PaymentsApi.Cents

  doctest Cents

  test "every amount of up to two decimals comes out of JSON as the cents that the client wrote" do
    for _ <- 1..20_000 do
      cents = :rand.uniform(Enum.random([99, 9_999, 99_999_999, Cents.max()]))
      assert decode(Cents.format(cents)) == {:ok, cents}
    end
  end

  test "the amounts that float arithmetic gets wrong" do
    for text <- ~w(19.90 0.29 1.15 8.20 4.35 0.57 1.01 33.33 9999999999.99),
        do: assert(decode(text) == {:ok, digits(text)})
  end

  test "the other ways to write a number" do
    assert decode("12") == {:ok, 1200}
    assert decode("12.0") == {:ok, 1200}
    assert decode("12.5") == {:ok, 1250}
    assert decode("12.500") == {:ok, 1250}
    assert decode("1.25e3") == {:ok, 125_000}
    assert decode("125e-2") == {:ok, 125}
    assert decode("1e-2") == {:ok, 1}
  end

  test "a third decimal is refused, never rounded" do
    for _ <- 1..5_000 do
      # The last digit is not 0, so the number has exactly three decimals.
      mills = :rand.uniform(99_999_999) * 10 + :rand.uniform(9)
      text = "#{div(mills, 1_000)}.#{mills |> rem(1_000) |> Integer.to_string() |> String.pad_leading(3, "0")}"
      assert decode(text) == {:error, "amount must have at most 2 decimals"}
    end

    assert {:error, _} = decode("1e-300")
  end

  test "zero, negative and too large amounts are refused" do
    for text <- ~w(0 0.00 -0.0 -1 -0.01), do: assert(decode(text) == {:error, "amount must be greater than 0"})

    for text <- ~w(10000000000 10000000000.00 1e300),
        do: assert(decode(text) == {:error, "amount must be at most 9999999999.99"})
  end

  test "what is no number is refused" do
    for json <- [~s("12.34"), "null", "true", "[1]", "{}"],
        do: assert(decode(json) == {:error, "amount must be a number"})
  end

  test "format writes two decimals, whatever the size" do
    assert Cents.format(0) == "0.00"
    assert Cents.format(5) == "0.05"
    assert Cents.format(-1990) == "-19.90"
    assert Cents.format(123_456_789_012_345_678_901) == "1234567890123456789.01"
  end

  defp decode(text), do: text |> then(&"[#{&1}]") |> :jiffy.decode([:return_maps]) |> hd() |> Cents.from_json()
  defp digits(text), do: text |> String.replace(".", "") |> String.to_integer()
end
