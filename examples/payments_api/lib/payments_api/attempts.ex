defmodule PaymentsApi.Attempts do
  @moduledoc """
  The log that convicts the queue: who handled which ticket, and what came of it.

  An item belongs to the worker that took it until it is settled, returned, or the worker dies. So when a ticket is handled
  again, this is lawful after an error that the handler returned, or when the worker before is dead. Anything else is the
  queue's doing, and each is counted:

    * `:overlapped`: the worker before is alive and still at it, or has not given the item back;
    * `:redelivered`: the item was acked before. A worker that goes on to its next item has had its last ack confirmed,
      and the item stays marked so after the worker's death.

  A row is `{ticket, worker, phase, paid?, cents}`, with the phase one of `:handling :paid :error :cancelled :acked`.
  """

  alias PaymentsApi.{Meter, Payment, Payer}

  @table __MODULE__
  @last {__MODULE__, :last}

  @doc false
  def create do
    :ets.new(@table, [:set, :public, :named_table, write_concurrency: true])
  end

  @doc "The calling worker takes up the payment."
  @spec begin(Payment.t()) :: :ok
  def begin(%{ticket: ticket, cents: cents}) do
    confirm_last()
    Process.put(@last, ticket)

    unless :ets.insert_new(@table, {ticket, self(), :handling, false, cents}) do
      [{_ticket, worker, phase, _paid?, _cents}] = :ets.lookup(@table, ticket)
      judge(phase, Process.alive?(worker))
      :ets.update_element(@table, ticket, [{2, self()}, {3, :handling}])
    end

    :ok
  end

  @doc "The calling worker is through with it."
  @spec finish(Payment.t(), Payer.answer()) :: :ok
  def finish(%{ticket: ticket}, answer) do
    [{_ticket, worker, _phase, paid?, _cents}] = :ets.lookup(@table, ticket)
    if worker != self(), do: Meter.add(:overlapped)
    phase = phase(answer)
    if phase == :paid and not paid?, do: Meter.add(:settled)
    :ets.update_element(@table, ticket, [{3, phase}, {4, paid? or phase == :paid}])
    :ok
  end

  @doc "How many tickets were paid, and their cents."
  @spec paid() :: {non_neg_integer(), non_neg_integer()}
  def paid do
    :ets.foldl(
      fn
        {_ticket, _worker, _phase, true, cents}, {count, sum} -> {count + 1, sum + cents}
        _unpaid, total -> total
      end,
      {0, 0},
      @table
    )
  end

  @spec paid?(Payment.t()) :: boolean()
  def paid?(%{ticket: ticket}), do: match?([{_ticket, _worker, _phase, true, _cents}], :ets.lookup(@table, ticket))

  @doc "Whether a worker is handling a payment right now."
  @spec busy?() :: boolean()
  def busy? do
    # Those that a worker's death left at `:handling` are not being handled.
    match = [{{:_, :"$1", :handling, :_, :_}, [], [:"$1"]}]
    Enum.any?(:ets.select(@table, match), &Process.alive?/1)
  end

  defp confirm_last do
    with ticket when ticket != nil <- Process.get(@last),
         [{_ticket, worker, :paid, _paid?, _cents}] when worker == self() <- :ets.lookup(@table, ticket) do
      :ets.update_element(@table, ticket, {3, :acked})
    end
  end

  defp judge(:error, _alive?), do: Meter.add(:retries)
  defp judge(:acked, _alive?), do: Meter.add(:redelivered)
  defp judge(_phase, true), do: Meter.add(:overlapped)
  defp judge(_phase, false), do: Meter.add(:again)

  defp phase(:ok), do: :paid
  defp phase({:error, _reason}), do: :error
  defp phase({:cancel, _reason}), do: :cancelled
end
