defmodule PaymentQueue.Workers.Batcher do
  @moduledoc false
  # The loop of a worker whose handler gets batches. The first item is waited for as long as it takes; from then on the
  # batch fills up to `size` for at most `wait` ms.

  alias PaymentQueue.{Handler, Taking}
  alias PaymentQueue.Telemetry.Span
  alias PaymentQueue.Workers.{Inbox, Outcome, Worker}

  @spec loop(Worker.t()) :: no_return()
  def loop(state) do
    if Inbox.stop?(state.parent), do: exit(:shutdown)

    case Taking.many(state.queue, state.batch.size) do
      [] ->
        case park(state, :infinity) do
          {:ok, item} -> gather(state, [item], 1, deadline(state))
          :stale -> __MODULE__.loop(state)
          :stop -> exit(:shutdown)
        end

      items ->
        gather(state, Enum.reverse(items), length(items), deadline(state))
    end
  end

  defp deadline(state), do: Taking.deadline(state.batch.wait)

  # `items` newest first.
  defp gather(%{batch: %{size: n}} = state, items, n, _deadline), do: run(state, items)

  defp gather(state, items, n, deadline) do
    case Taking.many(state.queue, state.batch.size - n) do
      [] -> gather_parked(state, items, n, deadline)
      more -> gather(state, Enum.reverse(more, items), n + length(more), deadline)
    end
  end

  defp gather_parked(state, items, n, deadline) do
    case if(Taking.remaining(deadline) > 0, do: park(state, deadline), else: :timeout) do
      {:ok, item} ->
        gather(state, [item | items], n + 1, deadline)

      :stale ->
        gather(state, items, n, deadline)

      :timeout ->
        run(state, items)

      :stop ->
        # The order to stop is used up by having been read; it holds for after this batch.
        Inbox.stop(self())
        run(state, items)
    end
  end

  defp park(state, deadline) do
    case Taking.park(state.queue) do
      {:parked, token} ->
        with {:delivered, delivery} <- Inbox.await(state.queue, state.parent, token, deadline),
             do: item(Taking.received(delivery))

      taken ->
        item(taken)
    end
  end

  defp item({:ok, payload, lease}), do: {:ok, {payload, lease}}
  defp item(:stale), do: :stale

  defp run(state, items) do
    {payloads, leases} = items |> Enum.reverse() |> Enum.unzip()
    span = if state.trace, do: Span.start(state.trace, payloads, leases)
    timer = Worker.watch(state, leases, span)
    outcomes = Handler.run_batch(state.handler, payloads)
    Worker.unwatch(timer)
    span = if span, do: Span.handled(span)

    settled = Outcome.settle_all(outcomes, leases, payloads, state.queue, state.backoff)

    # As in `Workers.Worker`: what is stale was expired by the watchdog, which has ended the span.
    if :stale in settled, do: Worker.stale()
    if span, do: Span.finish(span, Enum.zip(outcomes, settled))
    __MODULE__.loop(state)
  end
end
