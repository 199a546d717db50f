defmodule PaymentQueue.Soak.Stage do
  @moduledoc """
  A GenStage consumer with a producer of its own, `PaymentQueue.Producer`. Written against the callbacks, because there may be
  no GenStage to `use`. When the consumer is killed, its producer stops and gives back what was taken through it.
  """

  alias PaymentQueue.Soak.{Fate, Ledger, Payload, Puller, Waiting}

  @doc "Starts producer and consumer, linked to the caller: `{producer, consumer}`."
  @spec start_link(Puller.context()) :: {pid(), pid()}
  def start_link(context) do
    {:ok, producer} = PaymentQueue.Producer.start_link(queue: context.queue)
    {:ok, consumer} = apply(GenStage, :start_link, [__MODULE__, {producer, context}])
    {producer, consumer}
  end

  @doc false
  def init({producer, context}),
    do: {:consumer, context, subscribe_to: [{producer, max_demand: 8, min_demand: 2, cancel: :temporary}]}

  @doc false
  def handle_events(events, _from, context) do
    for {payload, lease} <- events, do: handle(context, payload, lease)
    {:noreply, [], context}
  end

  @doc false
  def handle_info({:confirm, from, tag}, context) do
    Waiting.answer(from, tag)
    {:noreply, [], context}
  end

  def handle_info(_message, context), do: {:noreply, [], context}

  defp handle(context, payload, lease) do
    case Payload.read(payload) do
      {:ok, id} ->
        n = Ledger.deliver(context.ledger, id)
        finish(Fate.taken(context.seed, id, n), context, {id, n, lease})

      :damaged ->
        Ledger.violate(context.ledger, :damaged, "came out as #{inspect(payload, limit: 20, printable_limit: 40)}")
    end
  end

  # What a consumer of events can do.
  defp finish(fate, _context, _item) when fate in [:die, :late_and_die], do: Process.exit(self(), :kill)
  defp finish(fate, context, item) when fate in [:late, :gather, :chain], do: Puller.settle(:ack, context, item)
  defp finish(fate, context, item), do: Puller.settle(fate, context, item)
end
