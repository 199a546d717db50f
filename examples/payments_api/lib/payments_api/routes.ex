defmodule PaymentsApi.Routes do
  @moduledoc """
  Which processor a payment was sent to, written down *before* it is sent.

  A worker can die, or an answer can get lost, after the money was taken. Whoever handles the payment then must ask the same
  processor with the same idempotency key: sending it to the other one would charge the customer twice, and no idempotency
  key helps across two companies. The route is therefore forgotten only when the processor has said for certain that it
  has not charged. A real payments API keeps it in the payment's database row.
  """

  alias PaymentsApi.{Ledger, UUID}

  @doc false
  def create do
    :ets.new(__MODULE__, [:set, :public, :named_table, write_concurrency: true, read_concurrency: true])
  end

  @doc "The processor that may have charged this payment, and the ticket under which it was sent there."
  @spec fetch(UUID.t()) :: {:ok, Ledger.processor(), ticket :: pos_integer()} | :none
  def fetch(id) do
    case :ets.lookup(__MODULE__, id) do
      [{_id, processor, ticket}] -> {:ok, processor, ticket}
      [] -> :none
    end
  end

  @doc "`false`: somebody else has written down a route first."
  @spec claim(UUID.t(), Ledger.processor(), pos_integer()) :: boolean()
  def claim(id, processor, ticket), do: :ets.insert_new(__MODULE__, {id, processor, ticket})

  @doc "The processor has refused: nothing was charged, the payment may go elsewhere."
  @spec forget(UUID.t()) :: :ok
  def forget(id) do
    :ets.delete(__MODULE__, id)
    :ok
  end
end
