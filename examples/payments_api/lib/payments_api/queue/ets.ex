defmodule PaymentsApi.Queue.Ets do
  @moduledoc "The API over the replaced ETS queue, for comparison: a killed worker loses the payment it had taken."
  use PaymentsApi.Queue.Replaced, queue: PaymentQueue.Baseline.EtsQueue
end
