defmodule PaymentQueue.Workers.Gate do
  @moduledoc false
  # Closes the queue when its tree is shut down in an orderly way, before the workers stop: from then on producers get
  # `:queue_closed` rather than filling a queue that nobody drains. After a kill nothing runs here, and the queue stays
  # open for the restarted tree. Also keeps the configuration for whoever asks.

  use GenServer

  alias PaymentQueue.Operations

  @spec start_link(map()) :: GenServer.on_start()
  def start_link(config), do: GenServer.start_link(__MODULE__, config)

  @spec config(pid()) :: map()
  def config(gate), do: GenServer.call(gate, :config)

  @impl true
  def init(config) do
    Process.flag(:trap_exit, true)
    {:ok, config}
  end

  @impl true
  def handle_call(:config, _from, config), do: {:reply, config, config}

  @impl true
  def handle_info(_message, config), do: {:noreply, config}

  @impl true
  def terminate(reason, config) do
    if reason in [:shutdown, :normal] or match?({:shutdown, _}, reason), do: Operations.call(config.name, :close)
  end
end
