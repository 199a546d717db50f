defmodule PaymentQueue.Soak.Payload do
  @moduledoc """
  What the soak enqueues: terms of many shapes and sizes, each with its id. All of a payload follows from its id and its
  size, so whoever gets it can tell whether a byte has changed.
  """

  @type id :: non_neg_integer()

  @kib 1_024
  @mib 1_048_576

  @doc "A payload of a random shape. One in a thousand is near a MiB."
  @spec random(id()) :: term()
  def random(id) do
    case :rand.uniform(1_000) do
      n when n <= 350 -> {id, id * 3}
      n when n <= 600 -> map(id)
      n when n <= 800 -> binary(id, :rand.uniform(256) + 7)
      n when n <= 990 -> binary(id, :rand.uniform(4 * @kib) + 7)
      n when n <= 999 -> binary(id, :rand.uniform(64 * @kib) + 7)
      _ -> binary(id, @mib - :rand.uniform(@kib))
    end
  end

  @doc "A payload that no queue of the soak accepts, for its size."
  @spec too_large(id()) :: binary()
  def too_large(id), do: binary(id, @mib + @kib)

  @doc "A binary of so many bytes."
  @spec binary(id(), pos_integer()) :: binary()
  def binary(id, size) when size >= 8, do: <<id::64, :binary.copy(<<id::8>>, size - 8)::binary>>

  defp map(id), do: %{id: id, to: "Café №#{id}", amount: rem(id, 100_000) / 4, lines: [id, {:fee, -id}, nil]}

  @doc "The id of a payload that came out as it went in."
  @spec read(term()) :: {:ok, id()} | :damaged
  def read({id, _} = payload) when is_integer(id), do: whole(id, payload == {id, id * 3})
  def read(%{id: id} = payload), do: whole(id, payload == map(id))
  def read(<<id::64, _::binary>> = payload), do: whole(id, payload == binary(id, byte_size(payload)))
  def read(_payload), do: :damaged

  defp whole(id, true), do: {:ok, id}
  defp whole(_id, false), do: :damaged
end
