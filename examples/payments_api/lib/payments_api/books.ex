defmodule PaymentsApi.Books do
  @moduledoc """
  Owns the ETS tables of `PaymentsApi.Ledger`, `PaymentsApi.Routes` and `PaymentsApi.Attempts`.

  It does nothing else, so that nothing can go wrong in it: the workers that write to the tables are killed all the time.
  A real payments API has a database here.
  """

  use GenServer

  alias PaymentsApi.{Attempts, Ledger, Meter, Routes}

  @spec start_link(keyword()) :: GenServer.on_start()
  def start_link(_opts \\ []), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @impl true
  def init(nil) do
    Meter.reset()
    Enum.each([Ledger, Routes, Attempts], & &1.create())
    {:ok, nil}
  end
end
