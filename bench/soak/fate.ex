defmodule PaymentQueue.Soak.Fate do
  @moduledoc """
  What becomes of the nth delivery of an item. It follows from the seed, the item and n, so that it is the same in each run of
  a seed, whoever gets the item. From the fifth delivery on all goes well: a soak that has no more load comes to rest.
  """

  @type seed :: non_neg_integer()

  @typedoc "Of a handler; `:hang` until the watchdog kills it, `:die` by a kill of its own."
  @type handled ::
          :ok | :error | :raise | :throw | :exit | :cancel | {:snooze, pos_integer()} | :bad_return | :hang | :die

  @typedoc "Of a process that takes; `:late`: another process acknowledges."
  @type taken :: :ack | :chain | :gather | :nack | {:nack, pos_integer()} | :reject | :late | :late_and_die | :die

  @doc "What the handler does."
  @spec handled(seed(), non_neg_integer(), pos_integer()) :: handled()
  def handled(_seed, _id, n) when n > 4, do: :ok

  def handled(seed, id, n) do
    case hash(seed, id, n) do
      h when h < 40 -> :error
      h when h < 50 -> :raise
      h when h < 55 -> :throw
      h when h < 60 -> :exit
      h when h < 70 -> :cancel
      h when h < 90 -> {:snooze, h - 69}
      h when h < 93 -> :bad_return
      93 -> :hang
      h when h < 98 -> :die
      _ -> :ok
    end
  end

  @doc "What the process that took it does."
  @spec taken(seed(), non_neg_integer(), pos_integer()) :: taken()
  def taken(_seed, _id, n) when n > 4, do: :ack

  def taken(seed, id, n) do
    case hash(seed, id, n) do
      h when h < 40 -> :nack
      h when h < 80 -> {:nack, h - 39}
      h when h < 95 -> :reject
      h when h < 100 -> :die
      h when h < 105 -> :late_and_die
      h when h < 200 -> :late
      h when h < 400 -> :gather
      h when h < 700 -> :chain
      _ -> :ack
    end
  end

  @doc "Milliseconds of work that a delivery takes."
  @spec work(seed(), non_neg_integer(), pos_integer()) :: 0..3
  def work(seed, id, n), do: max(:erlang.phash2({id, n, seed}, 12) - 8, 0)

  defp hash(seed, id, n), do: :erlang.phash2({seed, id, n}, 1_000)
end
