defmodule PlugApp.Bank do
  @moduledoc """
  Stands for the payment gateway. It charges whatever it is asked to, as often as it is asked: a payment that is handled
  twice is charged twice here, so that the tests would see it. A real one gets an idempotency key.
  """

  use GenServer

  def start_link(_), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @spec charge(String.t(), pos_integer()) :: :ok
  def charge(id, cents) do
    :ets.update_counter(__MODULE__, id, [{2, 1}, {3, cents}], {id, 0, 0})
    :ok
  end

  @doc "How often each payment was charged."
  @spec charges() :: %{String.t() => pos_integer()}
  def charges, do: for({id, times, _cents} <- :ets.tab2list(__MODULE__), into: %{}, do: {id, times})

  @impl true
  def init(_) do
    :ets.new(__MODULE__, [:named_table, :public, write_concurrency: true])
    {:ok, nil}
  end
end
