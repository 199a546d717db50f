defmodule PaymentQueue.Bench.Payload do
  @moduledoc """
  What travels through the queues: the same for all of them, built anew for each item as a request handler would, and each
  item with an id that its taker reads back.

  Ids are below 2^31, so that `amount` costs in the external term format what the amount of a payment costs. Of `n`
  producers the one with the number `p` gives the ids `p`, `p + n`, `p + 2n`...: together they are all numbers from 0 on, and the
  taker of an item knows whose it is and whether the order was kept.
  """

  @type kind :: :map | :json | :binary | :binary_4k | :binary_64k
  @type id :: 0..0x7FFFFFFF

  @sizes %{binary: 256, binary_4k: 4_096, binary_64k: 65_536}

  # No queue shall hold more than this of long payloads, whatever its capacity.
  @held_bytes 64 * 1024 * 1024
  @default_capacity 10_000

  @doc "The kind in words."
  @spec title(kind()) :: String.t()
  def title(:binary), do: "256 B"
  def title(:binary_4k), do: "4 KiB"
  def title(:binary_64k), do: "64 KiB"
  def title(kind), do: to_string(kind)

  @doc "Bytes of a payload: exact for binaries, about what a map takes otherwise."
  @spec bytes(kind()) :: pos_integer()
  def bytes(kind), do: Map.get(@sizes, kind, 100)

  @doc "The capacity for the benches: the default one, or less where the payloads are long."
  @spec capacity(kind()) :: pos_integer()
  def capacity(kind), do: min(@default_capacity, div(@held_bytes, bytes(kind)))

  @doc """
  `:map` is the payment of two fields, `:json` the same with the string keys that a JSON decoder makes, the others a
  request body of so many bytes.

  The UUID's last 8 characters are raw bytes: no queue looks into them, and printing hex would be time of the bench.
  """
  @spec build(kind(), id()) :: map() | binary()
  def build(:map, id), do: %{correlationId: uuid(id), amount: id}
  def build(:json, id), do: %{"correlationId" => uuid(id), "amount" => id}
  def build(kind, id), do: <<id::32, 0::size(Map.fetch!(@sizes, kind) - 4)-unit(8)>>

  @doc "The same payload with another id: what differs between two payments of one producer."
  @spec with_id(map() | binary(), id()) :: map() | binary()
  def with_id(%{amount: _} = payload, id), do: %{payload | amount: id}
  def with_id(%{"amount" => _} = payload, id), do: %{payload | "amount" => id}
  def with_id(<<_::32, rest::binary>>, id), do: <<id::32, rest::binary>>

  @doc "The id of an item, or `:stop` if it tells its taker to end."
  @spec id_of(map() | binary() | :stop) :: id() | :stop
  def id_of(%{amount: id}), do: id
  def id_of(%{"amount" => id}), do: id
  def id_of(<<id::32, _::binary>>), do: id
  def id_of(:stop), do: :stop

  defp uuid(id), do: <<"6f1c9f0e-8d5b-4d1e-9c3a-5c2b", id::64>>
end
