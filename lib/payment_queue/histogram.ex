defmodule PaymentQueue.Histogram do
  @moduledoc false
  # What can be done with the histograms that `PaymentQueue.Native.histograms/1` reads: `{sum in us, buckets}`, each bucket as
  # `{upper bound in us, count}`, shortest first, empty ones left out.

  @type t :: PaymentQueue.Native.histogram()
  @type percentiles :: %{p50: us(), p90: us(), p99: us(), p999: us(), max: us()}
  @type us :: non_neg_integer()

  @ranks [p50: 500, p90: 900, p99: 990, p999: 999, max: 1_000]

  @doc "The number of times that were counted."
  @spec count(t()) :: non_neg_integer()
  def count({_sum, buckets}), do: buckets |> Enum.map(&elem(&1, 1)) |> Enum.sum()

  @doc "What was counted between two readings of the same histogram."
  @spec between(t(), t()) :: t()
  def between({sum_before, before}, {sum, buckets}) do
    before = Map.new(before)
    grown = for {upper, count} <- buckets, n = count - Map.get(before, upper, 0), n > 0, do: {upper, n}
    {max(sum - sum_before, 0), grown}
  end

  @doc "Percentiles, each at most 12.5 % too high; nil where nothing was counted."
  @spec percentiles(t()) :: percentiles() | nil
  def percentiles({_sum, []}), do: nil

  def percentiles({_sum, buckets} = histogram) do
    total = count(histogram)
    Map.new(@ranks, fn {name, per_mille} -> {name, at_rank(buckets, rank(total, per_mille))} end)
  end

  defp rank(total, per_mille), do: max(div(total * per_mille + 999, 1_000), 1)

  defp at_rank([{upper, count} | _], rank) when count >= rank, do: upper
  defp at_rank([{_, count} | longer], rank), do: at_rank(longer, rank - count)

  @doc "How many of the times are below each of the ascending bounds, which must be ends of buckets: powers of two from 16 on."
  @spec cumulative(t(), [us()]) :: [{us(), non_neg_integer()}]
  def cumulative({_sum, buckets}, bounds) do
    {rows, _} =
      Enum.map_reduce(bounds, {buckets, 0}, fn bound, {buckets, below} ->
        {shorter, longer} = Enum.split_while(buckets, fn {upper, _} -> upper < bound end)
        below = below + count({0, shorter})
        {{bound, below}, {longer, below}}
      end)

    rows
  end
end
