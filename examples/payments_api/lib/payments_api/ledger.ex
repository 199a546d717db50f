defmodule PaymentsApi.Ledger do
  @moduledoc """
  The gateways' book: one row per charge. What was charged twice has two rows, whatever anybody else believes.

  Rows are ordered by processor and time, so a summary of a period reads that period only; the totals since the start are
  kept beside them and read in one step.
  """

  alias PaymentsApi.UUID

  @rows __MODULE__
  @totals Module.concat(__MODULE__, Totals)
  @slice 5_000

  @type processor :: :default | :fallback
  @type total :: %{count: non_neg_integer(), cents: non_neg_integer()}
  @type period :: {from :: integer() | nil, to :: integer() | nil}

  @doc false
  def create do
    :ets.new(@rows, [:ordered_set, :public, :named_table, write_concurrency: true])
    :ets.new(@totals, [:set, :public, :named_table])
    for processor <- processors(), do: :ets.insert(@totals, {processor, 0, 0})
  end

  @doc "In the order in which workers prefer them."
  @spec processors() :: [processor()]
  def processors, do: [:default, :fallback]

  @doc "Records that `processor` has taken the money. `time` is in microseconds since 1970."
  @spec charge(processor(), UUID.t(), pos_integer(), integer()) :: :ok
  def charge(processor, id, cents, time \\ System.system_time(:microsecond)) do
    :ets.insert(@rows, {{processor, time, System.unique_integer()}, id, cents})
    :ets.update_counter(@totals, processor, [{2, 1}, {3, cents}])
    :ok
  end

  @doc "Number and sum of the charges of a processor, all or those from `from` to `to` (microseconds, both included)."
  @spec total(processor(), period()) :: total()
  def total(processor, period \\ {nil, nil})

  def total(processor, {nil, nil}) do
    [{_processor, count, cents}] = :ets.lookup(@totals, processor)
    %{count: count, cents: cents}
  end

  def total(processor, {from, to}) do
    guards = for({compare, limit} <- [>=: from, "=<": to], limit, do: {compare, :"$1", limit})
    match = [{{{processor, :"$1", :_}, :_, :"$2"}, guards, [:"$2"]}]
    sum(:ets.select(@rows, match, @slice), %{count: 0, cents: 0})
  end

  # In slices: a period can have a million rows, and they need not all be in memory at once.
  defp sum(:"$end_of_table", total), do: total

  defp sum({cents, rest}, total) do
    sum(:ets.select(rest), %{count: total.count + length(cents), cents: total.cents + Enum.sum(cents)})
  end

  @doc "How many charges are one too many: rows beyond the first of each `correlationId`, at any processor."
  @spec paid_twice() :: non_neg_integer()
  def paid_twice do
    seen = :ets.new(:seen, [:set, :private])

    twice = :ets.foldl(fn {_key, id, _cents}, n -> if(:ets.insert_new(seen, {id}), do: n, else: n + 1) end, 0, @rows)

    :ets.delete(seen)
    twice
  end
end
