defmodule PlugApp.OldWorkers do
  @moduledoc "The workers of the queue to be replaced: each asks for a payment, charges it, and asks again."

  use Supervisor

  def start_link(count), do: Supervisor.start_link(__MODULE__, count, name: __MODULE__)

  @impl true
  def init(count) do
    children = for n <- 1..count, do: Supervisor.child_spec({PlugApp.OldWorkers.Worker, []}, id: n)
    Supervisor.init(children, strategy: :one_for_one, max_restarts: 1_000)
  end

  defmodule Worker do
    @moduledoc false
    use GenServer

    @idle_ms 5

    def start_link(_), do: GenServer.start_link(__MODULE__, [])

    @impl true
    def init(_) do
      # A shutdown waits until the payment at hand is charged.
      Process.flag(:trap_exit, true)
      {:ok, nil, 0}
    end

    @impl true
    def handle_info(:timeout, state) do
      case PlugApp.OldQueue.take() do
        {:ok, payment} ->
          PlugApp.Payer.handle(payment)
          {:noreply, state, 0}

        :empty ->
          {:noreply, state, @idle_ms}
      end
    end

    def handle_info(_message, state), do: {:noreply, state, 0}
  end
end
