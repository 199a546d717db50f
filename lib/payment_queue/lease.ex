defmodule PaymentQueue.Lease do
  @moduledoc false
  # What is read out of a lease on this side of the boundary: which delivery it is, and where its item lives.

  alias PaymentQueue.{Native, Nats}

  @type t :: Native.lease() | Nats.lease()

  @doc "Which delivery of its item this is, from 1. It sits above the 32 bits of the slot."
  @spec attempt(t()) :: pos_integer()
  def attempt({:nats, _, _, attempt}), do: attempt
  def attempt({_, slot_and_attempt, _}), do: Bitwise.bsr(slot_and_attempt, 32)

  @doc "Who settles it."
  @spec engine(t()) :: Native | Nats
  def engine({:nats, _, _, _}), do: Nats
  def engine(_lease), do: Native
end
