defmodule PlugApp.Migrating do
  @moduledoc "The app with two queues, and a flag between them that an operator moves while it runs."

  def children do
    PlugApp.Before.children() ++
      [
        {PaymentQueue, capacity: 10_000, handler: PlugApp.Payer, concurrency: 4},
        {PaymentQueue.Migration, legacy: PlugApp.OldQueue, key: & &1.customer}
      ]
  end

  defdelegate enqueue(payment), to: PaymentQueue.Migration
  defdelegate stats(), to: PaymentQueue.Migration
end
