defmodule PlugApp.After do
  @moduledoc "The app when it is over: the old queue, its workers and the flag are gone."

  def children, do: [{PaymentQueue, capacity: 10_000, handler: PlugApp.Payer, concurrency: 4}]

  defdelegate enqueue(payment), to: PaymentQueue
  defdelegate stats(), to: PaymentQueue
end
