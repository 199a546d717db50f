defmodule PaymentQueue.Durable.Flusher do
  @moduledoc false
  # Waits, when the tree of a durable queue is shut down, until the last settles of its workers are written: what was done
  # before an orderly stop is not done again after it. First among the children, so the last to stop.

  use GenServer

  alias PaymentQueue.Durable

  @spec start_link(map()) :: GenServer.on_start()
  def start_link(config), do: GenServer.start_link(__MODULE__, config)

  @spec child_spec(map()) :: Supervisor.child_spec()
  def child_spec(config) do
    grace = PaymentQueue.Supervisor.grace(Durable.timeout())
    %{id: __MODULE__, start: {__MODULE__, :start_link, [config]}, shutdown: grace}
  end

  @impl true
  def init(config) do
    Process.flag(:trap_exit, true)
    {:ok, config}
  end

  @impl true
  def handle_info(_message, config), do: {:noreply, config}

  # If the disk fails, waiting longer does not help: what it means is said by the guide.
  @impl true
  def terminate(_reason, config), do: Durable.flush(config.name, Durable.timeout())
end
