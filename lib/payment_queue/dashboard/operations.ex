defmodule PaymentQueue.Dashboard.Operations do
  @moduledoc false
  # What somebody with permission may do to a queue from the page.

  alias PaymentQueue.{Options, Snapshot}

  require Logger

  @type answer :: {:ok, String.t()} | {:error, String.t()}

  @doc "Does it, logs who did it, and says in a sentence what was done or why not."
  @spec run(PaymentQueue.queue(), String.t() | nil, String.t() | nil, term()) :: answer()
  def run(queue, operation, value, who) do
    answer = perform(operation, queue, value)
    {_, sentence} = answer
    Logger.info("PaymentQueue #{inspect(queue)}, from the dashboard#{by(who)}: #{sentence}", queue: queue)
    answer
  end

  defp by(true), do: ""
  defp by(who), do: ", by #{inspect(who, limit: 5, printable_limit: 100)}"

  defp perform("pause", queue, _value) do
    :ok = PaymentQueue.pause(queue)
    {:ok, "#{Snapshot.label(queue)} is paused: it accepts items and hands none out"}
  end

  defp perform("resume", queue, _value) do
    :ok = PaymentQueue.resume(queue)
    {:ok, "#{Snapshot.label(queue)} is running"}
  end

  defp perform("scale", queue, value) do
    max = Options.max_workers()

    with {workers, ""} when workers in 0..max//1 <- Integer.parse(value || ""),
         :ok <- PaymentQueue.scale(queue, workers) do
      {:ok, "#{Snapshot.label(queue)} has #{workers} #{plural(workers, "worker")} now"}
    else
      {:error, :no_workers} ->
        {:error, "#{Snapshot.label(queue)} has no workers here: it was started without a handler"}

      _not_a_number ->
        {:error, "the number of workers must be between 0 and #{max}"}
    end
  end

  defp perform("requeue_dead", queue, _value) do
    {:ok, n} = PaymentQueue.requeue_dead(queue, :all)
    {:ok, "#{n} dead #{plural(n, "letter")} put back into #{Snapshot.label(queue)}"}
  end

  defp perform(_other, _queue, _value), do: {:error, "there is no such operation"}

  defp plural(1, word), do: word
  defp plural(_, word), do: word <> "s"
end
