defmodule PaymentQueue.Baseline.Queue do
  @moduledoc """
  What the two replaced queues have in common, so that one worker, one demo and one bench drive both.

  Neither knows leases: an item taken is gone from the queue, whatever becomes of its taker. `in_flight` is, as it was in
  the replaced design, the number of running worker loops rather than of items.
  """

  @type name :: atom()
  @type payload :: term()
  @type wait_ms :: non_neg_integer()
  @type stats :: %{queue_size: non_neg_integer(), in_flight: non_neg_integer()}

  @callback start_link(opts :: keyword()) :: GenServer.on_start()
  @callback stop(name()) :: :ok
  @callback enqueue(payload(), name()) :: :ok | {:error, :queue_full}
  @callback take(name()) :: {:ok, payload(), wait_ms()} | :empty
  @callback stats(name()) :: stats()
  @callback worker_started(name()) :: :ok
  @callback worker_finished(name()) :: :ok
end
