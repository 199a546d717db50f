defmodule PlugApp.Payment do
  @moduledoc "A payment as a request brings it."

  @type t :: %{id: String.t(), customer: String.t(), cents: pos_integer()}

  @spec parse(map()) :: {:ok, t()} | {:error, :invalid_payment}
  def parse(%{"id" => id, "customer" => customer, "cents" => cents})
      when is_binary(id) and is_binary(customer) and is_integer(cents) and cents > 0,
      do: {:ok, %{id: id, customer: customer, cents: cents}}

  def parse(_), do: {:error, :invalid_payment}
end
