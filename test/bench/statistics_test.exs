defmodule PaymentQueue.Bench.StatisticsTest do
  use ExUnit.Case, async: true

  alias PaymentQueue.Bench.{Histogram, Statistics}

  test "the median is the middle, or the mean of the two in the middle" do
    assert Statistics.median([3]) == 3
    assert Statistics.median([5, 1, 3]) == 3
    assert Statistics.median([4, 1, 3, 2]) == 2.5
  end

  test "a percentile is the smallest value that so many do not exceed" do
    values = Enum.shuffle(1..100)
    assert Statistics.percentile(values, 50) == 50
    assert Statistics.percentile(values, 99) == 99
    assert Statistics.percentile(values, 99.9) == 100
    assert Statistics.percentile([7], 1) == 7
  end

  describe "a histogram" do
    test "is at most 1/32 above the exact percentile, and never below it" do
      values = for _ <- 1..5_000, do: trunc(:math.exp(:rand.uniform() * 25))
      histogram = filled(values)

      for percent <- [1, 10, 50, 90, 99, 99.9, 100] do
        exact = Statistics.percentile(values, percent)
        found = Histogram.percentile(histogram, percent)
        assert found >= exact, "p#{percent}: #{found} is below #{exact}"
        assert found <= exact + div(exact, 32) + 1, "p#{percent}: #{found} is far above #{exact}"
      end
    end

    test "puts the values around each power of two into their places" do
      for exponent <- 0..40, value <- [2 ** exponent - 1, 2 ** exponent, 2 ** exponent + 1] do
        found = filled([value, 2 ** 41]) |> Histogram.percentile(50)
        assert found in value..(value + div(value, 32) + 1), "#{value} came out as #{found}"
      end
    end

    test "knows the longest exactly, also beyond its last bucket" do
      assert filled([1, 123_456_789, 5]) |> Histogram.longest() == 123_456_789
      beyond = filled([2 ** 45])
      assert Histogram.longest(beyond) == 2 ** 45
      assert Histogram.count(beyond) == 1
    end

    test "typically shows p50, p99, p99.9 and the longest, in µs" do
      assert [p50, p99, p999, 10.0] = 1..10_000 |> Enum.to_list() |> filled() |> Histogram.typical_us()
      assert p50 >= 5.0 and p50 < p99 and p99 < p999
    end

    test "merged with others is one of all values" do
      merged = Histogram.merge([filled([1, 2, 3]), filled([100, 200]), Histogram.new()])
      assert Histogram.count(merged) == 5
      assert Histogram.longest(merged) == 200
      assert Histogram.percentile(merged, 60) == 3
    end
  end

  defp filled(values) do
    histogram = Histogram.new()
    Enum.each(values, &Histogram.record(histogram, &1))
    histogram
  end
end
