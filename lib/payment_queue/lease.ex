defmodule PaymentQueue.Lease do
  @moduledoc false
  # The one thing that is read out of a lease on this side of the boundary.

  alias PaymentQueue.Native

  @doc "Which delivery of its item this is, from 1. It sits above the 32 bits of the slot."
  @spec attempt(Native.lease() | PaymentQueue.Nats.lease()) :: pos_integer()
  def attempt({:nats, _, _, attempt}), do: attempt
  def attempt({_, slot_and_attempt, _}), do: Bitwise.bsr(slot_and_attempt, 32)
end
