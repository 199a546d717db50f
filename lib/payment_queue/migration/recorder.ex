defmodule PaymentQueue.Migration.Recorder do
  @moduledoc false
  # What one side answered and how fast: counters that any number of producers add to without asking a process. Latencies
  # go into buckets whose bounds grow by 2^(1/8), so a percentile is at most 9 % too high.
  #
  # `base` is a copy of the counters from the last change of the mode: a report can tell the two apart without anybody
  # setting counters back under the producers' hands.

  @calls 1
  @accepted 2
  @refused 3
  @errors 4
  @first_bucket 5
  @per_octave 8
  # Up to 2^40 ns, 18 minutes; what takes longer falls into the last bucket.
  @buckets 40 * @per_octave + 1
  @slots @first_bucket - 1 + @buckets

  @enforce_keys [:now, :base]
  defstruct @enforce_keys

  @type t :: %__MODULE__{now: :counters.counters_ref(), base: :counters.counters_ref()}
  @type outcome :: :accepted | :refused | :error

  @typedoc "`unfinished`: calls that have not come back; those of callers who died in them stay among these."
  @type summary :: %{
          calls: non_neg_integer(),
          accepted: non_neg_integer(),
          refused: non_neg_integer(),
          errors: non_neg_integer(),
          unfinished: non_neg_integer(),
          p50_us: float() | nil,
          p95_us: float() | nil,
          p99_us: float() | nil,
          max_us: float() | nil
        }

  @spec new() :: t()
  def new, do: %__MODULE__{now: :counters.new(@slots, [:write_concurrency]), base: :counters.new(@slots, [])}

  @doc "Counts a call that begins; returns what `stop/3` needs."
  @spec start(t()) :: integer()
  def start(%__MODULE__{now: now}) do
    :counters.add(now, @calls, 1)
    System.monotonic_time()
  end

  @doc "Counts the call's end."
  @spec stop(t(), integer(), outcome()) :: :ok
  def stop(%__MODULE__{now: now}, started, outcome) do
    ns = System.convert_time_unit(System.monotonic_time() - started, :native, :nanosecond)
    :counters.add(now, slot(outcome), 1)
    :counters.add(now, @first_bucket + bucket(ns), 1)
  end

  defp slot(:accepted), do: @accepted
  defp slot(:refused), do: @refused
  defp slot(:error), do: @errors

  defp bucket(ns) when ns < 2, do: 0
  defp bucket(ns), do: min(trunc(:math.log2(ns) * @per_octave), @buckets - 1)

  defp upper_us(bucket), do: Float.round(:math.pow(2, (bucket + 1) / @per_octave) / 1_000, 2)

  @doc "From here on `summary(recorder, :mode)` counts."
  @spec mark(t()) :: :ok
  def mark(%__MODULE__{now: now, base: base}),
    do: Enum.each(1..@slots, &:counters.put(base, &1, :counters.get(now, &1)))

  @doc "Everything since the start, or since the last `mark/1`."
  @spec summary(t(), :start | :mode) :: summary()
  def summary(recorder, since) do
    [calls, accepted, refused, errors | buckets] = Enum.map(1..@slots, &read(recorder, &1, since))
    total = Enum.sum(buckets)

    %{
      calls: calls,
      accepted: accepted,
      refused: refused,
      errors: errors,
      unfinished: unfinished(recorder),
      p50_us: percentile(buckets, total, 0.5),
      p95_us: percentile(buckets, total, 0.95),
      p99_us: percentile(buckets, total, 0.99),
      max_us: percentile(buckets, total, 1.0)
    }
  end

  # Read in this order, a call that ends in between is not counted as unfinished twice.
  defp unfinished(recorder) do
    ended = Enum.sum(Enum.map([@accepted, @refused, @errors], &read(recorder, &1, :start)))
    max(read(recorder, @calls, :start) - ended, 0)
  end

  defp read(%{now: now}, slot, :start), do: :counters.get(now, slot)
  # A producer on another core may be seen in the copy and not yet here.
  defp read(%{now: now, base: base}, slot, :mode), do: max(:counters.get(now, slot) - :counters.get(base, slot), 0)

  defp percentile(_buckets, 0, _share), do: nil
  defp percentile(buckets, total, share), do: walk(buckets, 0, ceil(total * share))

  defp walk([here | _], bucket, wanted) when here >= wanted, do: upper_us(bucket)
  defp walk([here | rest], bucket, wanted), do: walk(rest, bucket + 1, wanted - here)
end
