defmodule PaymentQueue.Soak.Puller do
  @moduledoc """
  A process that takes by itself, parked while there is nothing, and settles in every way there is; some leases it leaves to
  another process, the late one, which acknowledges when it pleases, maybe after the taker was killed.
  """

  alias PaymentQueue.Soak.{Fate, Ledger, Payload, Waiting}

  @type context :: %{queue: atom(), ledger: Ledger.t(), seed: Fate.seed(), late: pid()}

  # Leases acknowledged together.
  @gathered 8

  @doc "Takes until it is killed."
  @spec run(context()) :: no_return()
  def run(context), do: loop(context, nil, [])

  # `chained`: settled with the next take. `gathered`: settled together, at the latest when nothing comes.
  defp loop(context, chained, gathered) do
    case take(context, chained) do
      {:ok, payload, lease} ->
        confirm(context, chained)
        {chained, gathered} = handle(context, payload, lease, gathered)
        loop(context, chained, gathered)

      :empty ->
        confirm(context, chained)
        confirm_all(flush(context, gathered))
        loop(context, nil, [])

      {:error, :stale_lease} ->
        stale(context, chained)
        loop(context, nil, gathered)
    end
  end

  # Whoever asks wants to know that all it was told of its acknowledgements is in the ledger.
  defp confirm_all([]) do
    receive do
      {:confirm, from, tag} -> Waiting.answer(from, tag)
    after
      0 -> :ok
    end
  end

  defp take(context, nil), do: PaymentQueue.take(queue: context.queue, timeout: Enum.random(1..40))

  defp take(context, {id, _n, lease}) do
    Ledger.done(context.ledger, id)
    PaymentQueue.take(queue: context.queue, ack: lease, timeout: Enum.random(1..40))
  end

  defp confirm(_context, nil), do: :ok
  defp confirm(context, {id, n, _lease}), do: Ledger.settled(context.ledger, id, n)

  @doc "Handles one item by its fate; returns what is to be settled with the next take, and what is gathered."
  @spec handle(context(), term(), PaymentQueue.lease(), [tuple()]) :: {tuple() | nil, [tuple()]}
  def handle(context, payload, lease, gathered) do
    case Payload.read(payload) do
      {:ok, id} ->
        n = Ledger.deliver(context.ledger, id)
        Waiting.pass(Fate.work(context.seed, id, n))
        finish(Fate.taken(context.seed, id, n), context, {id, n, lease}, gathered)

      :damaged ->
        Ledger.violate(context.ledger, :damaged, "came out as #{inspect(payload, limit: 20, printable_limit: 40)}")
        {nil, gathered}
    end
  end

  defp finish(:chain, _context, item, gathered), do: {item, gathered}
  defp finish(:die, _context, _item, _gathered), do: Process.exit(self(), :kill)

  defp finish(:gather, context, item, gathered) do
    gathered = [item | gathered]
    {nil, if(length(gathered) < @gathered, do: gathered, else: flush(context, gathered))}
  end

  defp finish(:late, context, item, gathered) do
    send(context.late, {:ack, self(), item})
    {nil, gathered}
  end

  defp finish(:late_and_die, context, item, gathered) do
    finish(:late, context, item, gathered)
    Process.exit(self(), :kill)
  end

  defp finish(fate, context, item, gathered) do
    settle(fate, context, item)
    {nil, gathered}
  end

  @doc "Settles one lease now."
  @spec settle(Fate.taken(), context(), tuple()) :: :ok
  def settle(:ack, context, {id, n, lease} = item) do
    Ledger.done(context.ledger, id)

    case PaymentQueue.ack(lease) do
      :ok -> Ledger.settled(context.ledger, id, n)
      {:error, :stale_lease} -> stale(context, item)
    end
  end

  def settle(fate, context, {id, _n, lease} = item) do
    Ledger.release(context.ledger, id)

    answer =
      case fate do
        :nack -> PaymentQueue.nack(lease)
        {:nack, ms} -> PaymentQueue.nack(lease, delay: ms)
        :reject -> PaymentQueue.reject(lease, :unknown_account)
      end

    if answer != :ok, do: stale(context, item)
    :ok
  end

  defp flush(_context, []), do: []

  defp flush(context, items) do
    for {id, _, _} <- items, do: Ledger.done(context.ledger, id)

    stale =
      case PaymentQueue.ack_many(for {_, _, lease} <- items, do: lease) do
        :ok -> []
        {:error, {:stale_lease, stale}} -> stale
      end

    for {id, n, lease} = item <- items,
        do: if(lease in stale, do: stale(context, item), else: Ledger.settled(context.ledger, id, n))

    []
  end

  defp stale(context, {id, n, _lease}) do
    text = "#{inspect(self())} lives and had delivery #{n} of item #{id}, but its lease is stale"
    Ledger.violate(context.ledger, :stale, text)
  end

  # --- the late one --------------------------------------------------------------------------------------------------

  @doc "Acknowledges what takers send to it, after a while. Until it is told to stop."
  @spec late(Ledger.t()) :: no_return()
  def late(ledger) do
    receive do
      {:ack, taker, item} ->
        if :rand.uniform(10) == 1, do: Waiting.pass(Enum.random(1..10))
        ack_late(ledger, taker, item)
        late(ledger)

      {:confirm, from, tag} ->
        Waiting.answer(from, tag)
        late(ledger)
    end
  end

  defp ack_late(ledger, taker, {id, n, lease}) do
    # Asked first: a taker that dies in between excuses the stale lease.
    alive? = Process.alive?(taker)

    case PaymentQueue.ack(lease) do
      :ok ->
        Ledger.settled(ledger, id, n)

      {:error, :stale_lease} ->
        Ledger.count(ledger, :late_stale)

        if alive? and Process.alive?(taker),
          do: Ledger.violate(ledger, :stale, "the lease of item #{id} is stale, and its taker #{inspect(taker)} lives")
    end
  end
end
