defmodule PaymentsApi.Payer do
  @moduledoc """
  What a worker does with a payment: prefer the default processor, else the fallback, and charge once.

  A handler as PaymentQueue calls it. It knows no queue: the answer says what should become of the payment.

  | answer | meaning |
  |---|---|
  | `:ok` | paid |
  | `{:error, reason}` | not now: no processor could be had, or it is unknown whether one has charged |
  | `{:cancel, reason}` | never: declined |

  It may be killed at any point and called again for the same payment: see `PaymentsApi.Routes` for why that charges once.
  """

  @behaviour PaymentQueue.Handler

  alias PaymentsApi.{Attempts, Breaker, Gateway, Ledger, Meter, Payment, Routes}

  @type answer :: :ok | {:error, reason()} | {:cancel, :declined}
  @type reason :: :unavailable | {:outcome_unknown, Ledger.processor()}

  @impl true
  @spec handle(Payment.t()) :: answer()
  def handle(payment) do
    Attempts.begin(payment)
    answer = route(payment)
    Attempts.finish(payment, answer)
    answer
  end

  defp route(payment) do
    case Routes.fetch(payment.id) do
      {:ok, processor, ticket} -> ask_again(processor, ticket, payment)
      :none -> try_each(Enum.filter(Ledger.processors(), &Breaker.allow?/1), payment)
    end
  end

  defp try_each([], _payment), do: {:error, :unavailable}

  defp try_each([processor | others], payment) do
    if Routes.claim(payment.id, processor, payment.ticket) do
      case charge(processor, payment) do
        {:error, :unavailable} ->
          Routes.forget(payment.id)
          try_each(others, payment)

        answer ->
          outcome(answer, processor)
      end
    else
      # The client has sent this correlationId twice, and the other one was faster.
      route(payment)
    end
  end

  # A processor that may have charged: only it can tell, so even its being unavailable doesn't lead to the other one.
  defp ask_again(processor, ticket, payment) do
    answer = charge(processor, payment)
    if answer == {:ok, :already_charged}, do: count_duplicate(ticket, payment)
    outcome(answer, processor)
  end

  defp count_duplicate(ticket, %{ticket: ticket}), do: Meter.add(:deduplicated)

  defp count_duplicate(_other_ticket, payment) do
    Meter.add(:repeated)
    Meter.add(:repeated_cents, payment.cents)
  end

  defp charge(processor, payment) do
    answer = Gateway.charge(processor, payment.id, payment.cents)

    if answer in [{:error, :unavailable}, {:error, :no_answer}],
      do: Breaker.failure(processor),
      else: Breaker.success(processor)

    answer
  end

  defp outcome({:ok, _charged}, _processor), do: :ok
  defp outcome({:error, :declined}, _processor), do: {:cancel, :declined}
  defp outcome({:error, _unknown}, processor), do: {:error, {:outcome_unknown, processor}}
end
