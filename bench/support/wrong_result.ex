defmodule PaymentQueue.Bench.WrongResult do
  @moduledoc "A cell's own check failed: the bench ends with status 1, for a number that comes from wrong work is none."
  defexception [:message]

  @doc "Ends the bench unless `expected` is what came out."
  @spec check!(String.t(), term(), term()) :: :ok
  def check!(_what, same, same), do: :ok

  def check!(what, expected, actual) do
    raise __MODULE__, "#{what}: expected #{inspect(expected)}, got #{inspect(actual)}"
  end

  @doc "A queue that was drained must say so."
  @spec check_drained!(String.t(), module(), term()) :: :ok
  def check_drained!(what, adapter, handle) do
    check!("#{what}: stats at the end", %{queue_size: 0, in_flight: 0}, adapter.stats(handle))
  end
end
