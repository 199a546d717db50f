# What guides/ordering-and-limits.md talks about: its handler, and a queue with all that the page asks of one.
defmodule MyApp.PayGateway do
  @behaviour PaymentQueue.Handler

  @impl true
  def handle(_payment), do: :ok
end

{:ok, _} = PaymentQueue.start_link(unique_for: 60_000, priorities: 3)
payment = %{id: "p1", account: "A-1", amount: 1990}
report = %{id: "november"}
_ = {payment, report}
