defmodule PaymentsApi.Queue.GenServer do
  @moduledoc "The API over the replaced GenServer queue, for comparison: a killed worker loses the payment it had taken."
  use PaymentsApi.Queue.Replaced, queue: PaymentQueue.Baseline.GenServerQueue
end
