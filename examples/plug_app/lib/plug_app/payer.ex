defmodule PlugApp.Payer do
  @moduledoc "Charges a payment. The old workers call it, and it is the handler of PaymentQueue."

  @behaviour PaymentQueue.Handler

  @impl true
  def handle(%{id: id, cents: cents}), do: PlugApp.Bank.charge(id, cents)
end
