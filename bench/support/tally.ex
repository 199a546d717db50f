defmodule PaymentQueue.Bench.Tally do
  @moduledoc """
  What a worker keeps of the items it got, so that a cell can tell whether all arrived exactly once: how many, the sum and
  the xor of their ids, and, where one worker sees everything, how many came out of their producer's order.
  """

  import Bitwise

  alias PaymentQueue.Bench.Payload

  @typedoc "Count, sum, xor, breaks of order, and the last id of each producer or `nil` where order is not checked."
  @type t :: {non_neg_integer(), non_neg_integer(), non_neg_integer(), non_neg_integer(), tuple() | nil}

  @type total :: {non_neg_integer(), non_neg_integer(), non_neg_integer(), non_neg_integer()}

  @doc "An empty tally that checks the order of so many producers."
  @spec ordered(producers :: pos_integer()) :: t()
  def ordered(producers), do: {0, 0, 0, 0, Tuple.duplicate(-1, producers)}

  @doc "An empty tally of a worker beside others, who cannot see the whole order."
  @spec unordered() :: t()
  def unordered, do: {0, 0, 0, 0, nil}

  @spec add(t(), Payload.id()) :: t()
  def add({count, sum, xor, breaks, nil}, id), do: {count + 1, sum + id, bxor(xor, id), breaks, nil}

  def add({count, sum, xor, breaks, last}, id) do
    producer = rem(id, tuple_size(last))
    breaks = if id > elem(last, producer), do: breaks, else: breaks + 1
    {count + 1, sum + id, bxor(xor, id), breaks, put_elem(last, producer, id)}
  end

  @doc "The tallies of all workers as one: `{count, sum, xor, breaks}`."
  @spec total([t()]) :: total()
  def total(tallies) do
    Enum.reduce(tallies, {0, 0, 0, 0}, fn {count, sum, xor, breaks, _last}, {counts, sums, xors, all_breaks} ->
      {counts + count, sums + sum, bxor(xors, xor), all_breaks + breaks}
    end)
  end

  @doc "What `total/1` must be when the items with the ids 0 to `count - 1` arrived once and in order."
  @spec expected(count :: pos_integer()) :: total()
  def expected(count), do: {count, div(count * (count - 1), 2), xor_below(count), 0}

  # Four numbers that follow a multiple of four xor to nothing.
  defp xor_below(count) do
    first = count - rem(count, 4)
    Enum.reduce(first..(count - 1)//1, 0, &bxor/2)
  end
end
