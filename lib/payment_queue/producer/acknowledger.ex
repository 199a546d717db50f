defmodule PaymentQueue.Producer.Acknowledger do
  @moduledoc false
  # Broadway's acknowledger: settles the leases of the messages that Broadway is done with. The reference by which Broadway
  # groups them is the queue; a message's own data are its lease and what shall become of it.

  if Code.ensure_loaded?(Broadway.Acknowledger), do: @behaviour(Broadway.Acknowledger)

  require Logger

  alias PaymentQueue.{Options, Reason}
  alias PaymentQueue.Workers.Outcome

  @doc "What a message carries as its `:acknowledger`."
  @spec new(map(), PaymentQueue.Native.lease()) :: {module(), atom(), map()}
  def new(config, lease) do
    data = %{lease: lease, backoff: config.backoff, on_success: config.on_success, on_failure: config.on_failure}
    {__MODULE__, config.queue, data}
  end

  @doc false
  @spec ack(atom(), [struct()], [struct()]) :: :ok
  def ack(queue, successful, failed) do
    stale = late(successful, queue, :on_success, 0)
    stale = late(failed, queue, :on_failure, stale)

    if stale > 0 do
      Logger.warning(
        "PaymentQueue #{inspect(queue)}: #{stale} messages were acknowledged after their items had gone back to the queue",
        queue: queue
      )
    end

    :ok
  end

  defp late(messages, queue, event, stale) do
    Enum.reduce(messages, stale, fn message, stale ->
      {_, _, data} = message.acknowledger
      if settle(Map.fetch!(data, event), message, data, queue) == :stale, do: stale + 1, else: stale
    end)
  end

  defp settle(:noop, _message, _data, _queue), do: :noop
  defp settle(:ack, message, data, queue), do: outcome(:ok, message, data, queue)
  defp settle(:reject, message, data, queue), do: outcome({:reject, reason(message.status)}, message, data, queue)
  defp settle(:retry, message, data, queue), do: outcome({:retry, reason(message.status)}, message, data, queue)

  defp settle({:retry, delay}, message, data, queue),
    do: outcome({:retry, reason(message.status)}, message, %{data | backoff: delay}, queue)

  defp outcome(outcome, message, data, queue),
    do: Outcome.settle(outcome, data.lease, message.data, queue, data.backoff)

  defp reason({:failed, reason}), do: reason
  defp reason({kind, reason, stack}), do: {kind, reason, Reason.stack(stack)}
  # It failed and its status says nothing of that any more: `handle_failed/2` may return whatever message it likes.
  defp reason(_status), do: :failed

  @doc false
  @spec configure(atom(), map(), keyword()) :: {:ok, map()}
  def configure(_queue, data, options), do: {:ok, Map.merge(data, Options.acknowledge!(options))}
end
