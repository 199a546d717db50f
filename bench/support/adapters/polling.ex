defmodule PaymentQueue.Bench.Polling do
  @moduledoc """
  What the two replaced queues do alike: an idle worker looks again every millisecond, and items go in and out one by one,
  for neither knew batches.
  """

  alias PaymentQueue.Bench.Adapter

  # The replaced design's pause of an idle worker: part of what is measured.
  @idle_ms 1

  @spec take(queue :: module(), Adapter.handle()) :: {Adapter.payload(), nil}
  def take(queue, handle) do
    case queue.take(handle) do
      {:ok, payload, _wait_ms} ->
        {payload, nil}

      :empty ->
        Process.sleep(@idle_ms)
        take(queue, handle)
    end
  end

  @spec take_many(queue :: module(), Adapter.handle(), pos_integer()) :: {[Adapter.payload()], []}
  def take_many(queue, handle, n) do
    {first, nil} = take(queue, handle)
    {[first | take_present(queue, handle, n - 1)], []}
  end

  @spec put_many(queue :: module(), Adapter.handle(), [Adapter.payload()]) :: non_neg_integer()
  def put_many(queue, handle, payloads) do
    Enum.reduce_while(payloads, 0, fn payload, accepted ->
      case queue.enqueue(payload, handle) do
        :ok -> {:cont, accepted + 1}
        {:error, :queue_full} -> {:halt, accepted}
      end
    end)
  end

  defp take_present(_queue, _handle, 0), do: []

  defp take_present(queue, handle, n) do
    case queue.take(handle) do
      {:ok, payload, _wait_ms} -> [payload | take_present(queue, handle, n - 1)]
      :empty -> []
    end
  end
end
