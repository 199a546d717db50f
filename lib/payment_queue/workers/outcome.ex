defmodule PaymentQueue.Workers.Outcome do
  @moduledoc false
  # What a handler's outcome does to the item, and the one line in the log that says so.

  require Logger

  alias PaymentQueue.{Backoff, Handler, Lease, Operations, Options, Reason}

  @type done :: :success | :failure | :discard | :cancelled | :snoozed | :stale

  @doc "Settles the item. `backoff` may be a fixed delay."
  @spec settle(Handler.outcome(), Lease.t(), term(), atom(), Backoff.t() | non_neg_integer()) :: done()
  def settle(:ok, lease, _payload, _queue, _backoff), do: settled(Lease.engine(lease).ack(lease), :success)

  def settle({:snooze, ms}, lease, _payload, _queue, _backoff),
    do: settled(Lease.engine(lease).release(lease, ms), :snoozed)

  def settle({:reject, reason}, lease, payload, queue, _backoff) do
    with :cancelled <- settled(Lease.engine(lease).reject(lease, Reason.encode(reason)), :cancelled) do
      log(:error, queue, Lease.attempt(lease), "cancelled, now a dead letter", reason, payload)
      :cancelled
    end
  end

  def settle({:retry, reason}, lease, payload, queue, backoff) do
    attempt = Lease.attempt(lease)
    delay = delay(backoff, attempt)

    case Lease.engine(lease).retry(lease, delay, Reason.encode(reason)) do
      :ok ->
        log(:warning, queue, attempt, "failed, tried again in #{delay} ms", reason, payload)
        :failure

      :dead ->
        log(:error, queue, attempt, "failed for the last time, now a dead letter", reason, payload)
        :discard

      {:error, _} ->
        :stale
    end
  end

  @doc "As `settle/5`, for the items of a batch in their order. A batch that all went well is settled in one call."
  @spec settle_all([Handler.outcome()], [Lease.t()], [term()], atom(), Backoff.t()) :: [done()]
  def settle_all(outcomes, leases, payloads, queue, backoff) do
    if Enum.all?(outcomes, &(&1 == :ok)) do
      acked(PaymentQueue.ack_many(leases), leases)
    else
      Enum.zip_with([outcomes, leases, payloads], fn [outcome, lease, payload] ->
        settle(outcome, lease, payload, queue, backoff)
      end)
    end
  end

  defp acked(:ok, leases), do: Enum.map(leases, fn _ -> :success end)

  defp acked({:error, {:stale_lease, stale}}, leases),
    do: Enum.map(leases, fn lease -> if lease in stale, do: :stale, else: :success end)

  defp settled(:ok, done), do: done
  # An end that NATS did not confirm is like a stale lease: the item is delivered again.
  defp settled({:error, _}, _done), do: :stale

  defp delay(ms, _attempt) when is_integer(ms), do: ms
  defp delay(backoff, attempt), do: Backoff.delay(backoff, attempt)

  @doc "The line for an item whose worker the watchdog killed, and what becomes of the item."
  @spec log_timeout(atom(), Lease.t(), non_neg_integer(), pos_integer()) :: :failure | :discard
  def log_timeout(queue, lease, delay, timeout) do
    attempt = Lease.attempt(lease)

    if attempt >= queue |> Operations.call(:settings) |> Options.setting(:max_attempts) do
      log(:error, queue, attempt, "took over #{timeout} ms for the last time, now a dead letter", :timeout, nil)
      :discard
    else
      log(:warning, queue, attempt, "took over #{timeout} ms, tried again in #{delay} ms", :timeout, nil)
      :failure
    end
  end

  # Never the payload: the reason is described with every copy of it left out.
  defp log(level, queue, attempt, what, reason, payload) do
    text = Reason.describe(reason, [payload])

    Logger.log(level, "PaymentQueue #{inspect(queue)}: attempt #{attempt} #{what}: #{text}",
      queue: queue,
      attempt: attempt,
      reason: text
    )
  end
end
