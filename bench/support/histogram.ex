defmodule PaymentQueue.Bench.Histogram do
  @moduledoc """
  Durations in ns in logarithmic buckets, 32 for each power of two: a percentile is at most 1/32 too high. The longest is exact.

  One process records into one histogram. It keeps nothing on the process's heap, so recording provokes no collection of
  garbage.
  """

  import Bitwise

  @parts 32
  @bits 5
  # Up to 2^41 ns, over half an hour.
  @buckets @parts * 37
  @longest @buckets + 1

  @type t :: :counters.counters_ref()

  @spec new() :: t()
  def new, do: :counters.new(@longest, [])

  @spec record(t(), ns :: non_neg_integer()) :: :ok
  def record(histogram, ns) do
    :counters.add(histogram, bucket(ns) + 1, 1)
    if ns > :counters.get(histogram, @longest), do: :counters.put(histogram, @longest, ns), else: :ok
  end

  @doc "All that was recorded in any of them, as one."
  @spec merge([t()]) :: t()
  def merge(histograms) do
    merged = new()

    for histogram <- histograms do
      for index <- 1..@buckets, do: :counters.add(merged, index, :counters.get(histogram, index))
      :counters.put(merged, @longest, max(longest(merged), longest(histogram)))
    end

    merged
  end

  @spec count(t()) :: non_neg_integer()
  def count(histogram), do: Enum.reduce(1..@buckets, 0, &(&2 + :counters.get(histogram, &1)))

  @doc "The duration that `percent` % do not exceed, as the upper edge of its bucket."
  @spec percentile(t(), number()) :: non_neg_integer()
  def percentile(histogram, percent) do
    rank = max(ceil(percent / 100 * count(histogram)), 1)
    min(find(histogram, rank, 0), longest(histogram))
  end

  @doc "p50, p99, p99.9 and the longest, in µs."
  @spec typical_us(t()) :: [float()]
  def typical_us(histogram) do
    for ns <- Enum.map([50, 99, 99.9], &percentile(histogram, &1)) ++ [longest(histogram)], do: ns / 1_000
  end

  @spec longest(t()) :: non_neg_integer()
  def longest(histogram), do: :counters.get(histogram, @longest)

  defp find(_histogram, _rank, @buckets), do: upper_edge(@buckets - 1)

  defp find(histogram, rank, bucket) do
    left = rank - :counters.get(histogram, bucket + 1)
    if left <= 0, do: upper_edge(bucket), else: find(histogram, left, bucket + 1)
  end

  defp bucket(ns) when ns < @parts, do: max(ns, 0)

  defp bucket(ns) do
    shift = trunc(:math.log2(ns)) - @bits
    min((shift + 1) * @parts + (ns >>> shift) - @parts, @buckets - 1)
  end

  defp upper_edge(bucket) when bucket < @parts, do: bucket

  defp upper_edge(bucket) do
    shift = div(bucket, @parts) - 1
    ((rem(bucket, @parts) + @parts + 1) <<< shift) - 1
  end
end
