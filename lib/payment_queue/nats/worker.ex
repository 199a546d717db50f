defmodule PaymentQueue.Nats.Worker do
  @moduledoc false
  # The loop of a worker whose items live in NATS. Like that of `Workers.Worker`, but the server confirms a settle before the
  # next item is taken: what was not confirmed is delivered again.

  alias PaymentQueue.{Handler, Nats}
  alias PaymentQueue.Nats.Payload
  alias PaymentQueue.Telemetry.Span
  alias PaymentQueue.Workers.{Inbox, Outcome, Worker}

  @spec loop(Worker.t()) :: no_return()
  def loop(state) do
    if Inbox.stop?(state.parent), do: exit(:shutdown)

    case Nats.park(state.queue) do
      {:ok, delivery} -> handle(state, delivery)
      {:parked, token} -> parked(state, token)
    end
  end

  defp parked(state, token) do
    case Inbox.await(state.queue, state.parent, token, :infinity) do
      {:delivered, delivery} -> handle(state, delivery)
      :stop -> exit(:shutdown)
    end
  end

  defp handle(state, {lease, payload, _waited}) do
    with {:ok, payload} <- Payload.open(lease, payload) do
      span = if state.trace, do: Span.start(state.trace, [payload], [lease])
      timer = Worker.watch(state, [lease], span)
      outcome = Handler.run(state.handler, payload)
      Worker.unwatch(timer)
      span = if span, do: Span.handled(span)
      done = Outcome.settle(outcome, lease, payload, state.queue, state.backoff)
      if done == :stale, do: Worker.stale()
      if span, do: Span.finish(span, [{outcome, done}])
    end

    __MODULE__.loop(state)
  end
end
