defmodule PaymentsApi.Histogram do
  @moduledoc """
  Durations in logarithmic buckets: every power of two is cut into 16, so a percentile is at most 1/16 too high.

  Recording is one atomic addition and asks no process. A snapshot is a tuple of counts; the difference of two is the
  time between them.
  """

  import Bitwise

  # Up to 2^36 microseconds, 19 hours: longer ones fall into the last bucket.
  @buckets 16 + 32 * 16

  @type t :: :counters.counters_ref()
  @type snapshot :: tuple()

  @spec new() :: t()
  def new, do: :counters.new(@buckets, [:write_concurrency])

  @doc "Counts one duration in microseconds."
  @spec record(t(), integer()) :: :ok
  def record(histogram, value), do: :counters.add(histogram, bucket(max(value, 0)) + 1, 1)

  @spec snapshot(t()) :: snapshot()
  def snapshot(histogram), do: List.to_tuple(for(i <- 1..@buckets, do: :counters.get(histogram, i)))

  @doc "What was recorded after `earlier` and up to `later`."
  @spec since(snapshot(), snapshot()) :: snapshot()
  def since(later, earlier) do
    Tuple.to_list(later) |> Enum.zip_with(Tuple.to_list(earlier), &-/2) |> List.to_tuple()
  end

  @spec count(snapshot()) :: non_neg_integer()
  def count(snapshot), do: Tuple.sum(snapshot)

  @doc "The duration that `percent` of all stay under, in microseconds; nil when nothing was recorded."
  @spec percentile(snapshot(), number()) :: non_neg_integer() | nil
  def percentile(snapshot, percent) do
    case count(snapshot) do
      0 -> nil
      count -> walk(snapshot, 0, ceil(count * percent / 100))
    end
  end

  defp walk(snapshot, bucket, wanted) do
    here = elem(snapshot, bucket)
    if here >= wanted or bucket == @buckets - 1, do: upper(bucket), else: walk(snapshot, bucket + 1, wanted - here)
  end

  @doc false
  def bucket(value) when value < 16, do: value
  def bucket(value), do: bucket(value, 0)

  # `value` is halved until 16..31 is left: its low four bits are the place within the power of two.
  defp bucket(value, power) when value < 32, do: min(16 + power * 16 + (value &&& 15), @buckets - 1)
  defp bucket(value, power), do: bucket(value >>> 1, power + 1)

  @doc false
  def upper(bucket) when bucket < 16, do: bucket

  def upper(bucket) do
    power = div(bucket - 16, 16)
    ((16 + rem(bucket, 16) + 1) <<< power) - 1
  end
end
