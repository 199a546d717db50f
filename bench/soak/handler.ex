defmodule PaymentQueue.Soak.Handler do
  @moduledoc "What the workers do with their items: each delivery has its `PaymentQueue.Soak.Fate`."

  alias PaymentQueue.Soak.{Fate, Ledger, Payload, Waiting}

  @type context :: %{ledger: Ledger.t(), seed: Fate.seed()}

  @doc "Handles one payload."
  @spec one(term(), context()) :: term()
  def one(payload, context) do
    {id, n, fate} = receipt(payload, context)
    Waiting.pass(Fate.work(context.seed, id, n))
    finish(id, fate, context.ledger)
  end

  @doc "Handles a batch. What ends the handler ends it for all."
  @spec many([term()], context()) :: [term()]
  def many(payloads, context) do
    receipts = Enum.map(payloads, &receipt(&1, context))
    {first, _, last_word} = hd(receipts)
    Waiting.pass(Fate.work(context.seed, first, 1))
    fates = for {_, _, fate} <- receipts, do: fate

    cond do
      fate = Enum.find([:hang, :die], &(&1 in fates)) -> finish(first, fate, context.ledger)
      last_word in [:raise, :throw, :exit] -> end_all(receipts, last_word, context.ledger)
      true -> for {id, _, fate} <- receipts, do: finish(id, gentle(fate), context.ledger)
    end
  end

  defp end_all(receipts, fate, ledger) do
    for {id, _, _} <- receipts, do: Ledger.release(ledger, id)
    finish(elem(hd(receipts), 0), fate, ledger)
  end

  defp gentle(fate), do: if(fate in [:raise, :throw, :exit], do: :error, else: fate)

  defp receipt(payload, context) do
    case Payload.read(payload) do
      {:ok, id} ->
        n = Ledger.deliver(context.ledger, id)
        {id, n, Fate.handled(context.seed, id, n)}

      :damaged ->
        Ledger.violate(context.ledger, :damaged, "came out as #{inspect(payload, limit: 20, printable_limit: 40)}")
        {0, 0, :ok}
    end
  end

  defp finish(id, :ok, ledger) do
    Ledger.done(ledger, id)
    :ok
  end

  # For ever, and not for long: a VM that was stopped for a while would see both times over at once.
  defp finish(_id, :hang, _ledger), do: Waiting.pass(:infinity)
  defp finish(_id, :die, _ledger), do: Process.exit(self(), :kill)

  defp finish(id, fate, ledger) do
    Ledger.release(ledger, id)

    case fate do
      :error -> {:error, :gateway_down}
      :cancel -> {:cancel, :unknown_account}
      {:snooze, ms} -> {:snooze, ms}
      :bad_return -> :what_is_this
      :raise -> raise "the gateway speaks in riddles"
      :throw -> throw(:gateway_down)
      :exit -> exit(:gateway_down)
    end
  end
end
