defmodule PaymentQueue.Migration.Mode do
  @moduledoc false
  # The mode as one integer, so that the flag is one atomic word which every `enqueue` reads: 0 to 2 are the modes that
  # send all calls one way, 3 and above are hundredths of a percent.

  @type t :: PaymentQueue.Migration.mode()
  @type word :: non_neg_integer()

  @legacy 0
  @native 1
  @shadow 2
  @percent 3
  # Hundredths of a percent, and the number of classes into which keys fall.
  @whole 10_000

  @allowed ":legacy, :shadow, :native or {:percent, p} with p in 0..100 and at most two decimals"

  @doc "The word of a mode; raises for anything else."
  @spec encode!(term()) :: word()
  def encode!(:legacy), do: @legacy
  def encode!(:native), do: @native
  def encode!(:shadow), do: @shadow

  def encode!({:percent, p} = mode) when is_number(p) and p >= 0 and p <= 100 do
    share = round(p * 100)
    if share / 100 == p, do: @percent + share, else: invalid!(mode)
  end

  def encode!(other), do: invalid!(other)

  @spec decode(word()) :: t()
  def decode(@legacy), do: :legacy
  def decode(@native), do: :native
  def decode(@shadow), do: :shadow
  def decode(word) when rem(word - @percent, 100) == 0, do: {:percent, div(word - @percent, 100)}
  def decode(word), do: {:percent, (word - @percent) / 100}

  @doc "Where a call goes: to one side, to both, or, as a share in hundredths of a percent, where `native?/2` says."
  @spec route(word()) :: :legacy | :native | :shadow | 0..10_000
  def route(@legacy), do: :legacy
  def route(@native), do: :native
  def route(@shadow), do: :shadow
  def route(word), do: word - @percent

  @doc """
  Whether a key is among the share. A key's class never changes and a share is a prefix of the classes: a larger one only
  adds keys.
  """
  @spec native?(0..10_000, term()) :: boolean()
  def native?(share, key), do: :erlang.phash2(key, @whole) < share

  @doc "Whether the legacy queue gets any new items."
  @spec legacy?(word()) :: boolean()
  def legacy?(@native), do: false
  def legacy?(word), do: word - @percent != @whole

  @doc "Whether the new queue gets items that its workers are to handle."
  @spec native_live?(word()) :: boolean()
  def native_live?(word), do: word not in [@legacy, @shadow]

  @spec invalid!(term()) :: no_return()
  defp invalid!(mode), do: raise(ArgumentError, "invalid value for :mode: #{inspect(mode)}; allowed: #{@allowed}")
end
