defmodule PaymentQueue.Bench.Payload do
  @moduledoc """
  What travels through the queues: the same for all of them, built anew for each item as a request handler would, and each
  item with an id that its taker reads back.

  An id is the producer's number and a sequence number in 31 bits. So `amount` costs in the external term format what the
  amount of a payment costs, and the taker of an item knows whether the order of its producer was kept.
  """

  import Bitwise

  @type kind :: :map | :json | :binary
  @type id :: 0..0x7FFFFFFF

  @sequence_bits 24

  @doc "The most items that one producer can number."
  @spec max_sequence() :: pos_integer()
  def max_sequence, do: (1 <<< @sequence_bits) - 1

  @spec id(producer :: 0..127, sequence :: non_neg_integer()) :: id()
  def id(producer, sequence), do: producer <<< @sequence_bits ||| sequence

  @spec producer(id()) :: 0..127
  def producer(id), do: id >>> @sequence_bits

  @doc """
  `:map` is the payment of two fields, `:json` the same with the string keys that a JSON decoder makes, `:binary` a request
  body of 256 bytes.

  The UUID's last 8 characters are raw bytes: no queue looks into them, and printing hex would be time of the bench.
  """
  @spec build(kind(), id()) :: map() | binary()
  def build(:map, id), do: %{correlationId: uuid(id), amount: id}
  def build(:json, id), do: %{"correlationId" => uuid(id), "amount" => id}
  def build(:binary, id), do: <<id::32, 0::size(252)-unit(8)>>

  @doc "A payload of one producer, to be given an id."
  @spec template(kind(), producer :: 0..127) :: map() | binary()
  def template(kind, producer), do: build(kind, id(producer, 0))

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
