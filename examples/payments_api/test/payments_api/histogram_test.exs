defmodule PaymentsApi.HistogramTest do
  use ExUnit.Case, async: true

  alias PaymentsApi.Histogram

  test "every duration is in a bucket that ends at it or at most 1/16 above it" do
    for _ <- 1..20_000 do
      value = :rand.uniform(2 ** Enum.random(1..35)) - 1
      upper = Histogram.upper(Histogram.bucket(value))
      assert value <= upper and upper <= value + div(value, 16)
    end
  end

  test "percentiles agree with the sorted values" do
    histogram = Histogram.new()
    values = for _ <- 1..5_000, do: :rand.uniform(2 ** Enum.random(1..20))
    Enum.each(values, &Histogram.record(histogram, &1))
    snapshot = Histogram.snapshot(histogram)

    for percent <- [1, 50, 90, 99, 99.9, 100] do
      exact = values |> Enum.sort() |> Enum.at(ceil(5_000 * percent / 100) - 1)
      assert Histogram.percentile(snapshot, percent) in exact..(exact + div(exact, 16))
    end
  end

  test "a difference of snapshots is the time between" do
    histogram = Histogram.new()
    Histogram.record(histogram, 5)
    earlier = Histogram.snapshot(histogram)
    assert Histogram.percentile(Histogram.since(earlier, earlier), 50) == nil
    Histogram.record(histogram, 9)
    between = Histogram.since(Histogram.snapshot(histogram), earlier)
    assert {Histogram.count(between), Histogram.percentile(between, 50)} == {1, 9}
  end

  test "what is out of range is counted at the end of it" do
    histogram = Histogram.new()
    Histogram.record(histogram, -3)
    Histogram.record(histogram, 2 ** 60)
    snapshot = Histogram.snapshot(histogram)
    assert {Histogram.count(snapshot), Histogram.percentile(snapshot, 50)} == {2, 0}
  end
end
