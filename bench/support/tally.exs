defmodule PaymentQueue.Bench.Tally do
  @moduledoc """
  What a worker keeps of the items it got, so that a cell can tell whether all arrived exactly once: how many, the sum and
  the xor of their ids, and, where one worker sees everything, how many came out of their producer's order.
  """

  import Bitwise

  alias PaymentQueue.Bench.Payload

  @typedoc "Count, sum, xor, breaks of order, and the last id of each producer or `nil` where order is not checked."
  @type t ::
          {non_neg_integer(), non_neg_integer(), non_neg_integer(), non_neg_integer(), tuple() | nil}

  @doc "An empty tally that checks the order of so many producers."
  @spec ordered(producers :: pos_integer()) :: t()
  def ordered(producers), do: {0, 0, 0, 0, Tuple.duplicate(-1, producers)}

  @doc "An empty tally of a worker beside others, who cannot see the whole order."
  @spec unordered() :: t()
  def unordered, do: {0, 0, 0, 0, nil}

  @spec add(t(), Payload.id()) :: t()
  def add({count, sum, xor, breaks, nil}, id), do: {count + 1, sum + id, bxor(xor, id), breaks, nil}

  def add({count, sum, xor, breaks, last}, id) do
    producer = Payload.producer(id)
    breaks = if id > elem(last, producer), do: breaks, else: breaks + 1
    {count + 1, sum + id, bxor(xor, id), breaks, put_elem(last, producer, id)}
  end

  @doc "The tallies of all workers as one: `{count, sum, xor, breaks}`."
  @spec total([t()]) ::
          {non_neg_integer(), non_neg_integer(), non_neg_integer(), non_neg_integer()}
  def total(tallies) do
    Enum.reduce(tallies, {0, 0, 0, 0}, fn {count, sum, xor, breaks, _last}, {counts, sums, xors, all_breaks} ->
      {counts + count, sums + sum, bxor(xors, xor), all_breaks + breaks}
    end)
  end

  @doc "What `total/1` must be when each of the producers' items arrived once and in order."
  @spec expected(producers :: pos_integer(), per_producer :: pos_integer()) ::
          {non_neg_integer(), non_neg_integer(), non_neg_integer(), 0}
  def expected(producers, per_producer) do
    Enum.reduce(0..(producers - 1), {0, 0, 0, 0}, fn producer, total ->
      Enum.reduce(0..(per_producer - 1), total, fn sequence, {count, sum, xor, 0} ->
        id = Payload.id(producer, sequence)
        {count + 1, sum + id, bxor(xor, id), 0}
      end)
    end)
  end
end
