# What guides/operations.md talks about: its handler, and a payment queue on a bad day, with three dead letters.
defmodule MyApp.PayGateway do
  @behaviour PaymentQueue.Handler

  @impl true
  def handle(_payment), do: :ok
end

{:ok, tree} = PaymentQueue.start_link(name: :payments)

for reason <- [:down, :unknown_account, :down] do
  :ok = PaymentQueue.enqueue(%{id: reason}, queue: :payments)
  {:ok, _, lease} = PaymentQueue.take(queue: :payments)
  :ok = PaymentQueue.reject(lease, reason)
end

:ok = Supervisor.stop(tree)
