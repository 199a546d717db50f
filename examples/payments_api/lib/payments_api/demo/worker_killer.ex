defmodule PaymentsApi.Demo.WorkerKiller do
  @moduledoc """
  Kills a random worker of the queue again and again, in whatever it is doing.

  `:kill` cannot be trapped: no worker gets to tidy up, as if its scheduler had burnt down. Only processes that the queue
  names as its workers are killed.
  """

  use GenServer

  alias PaymentsApi.Meter

  @doc "Options: `queue:` (a module with the behaviour `PaymentsApi.Queue`), `every:` (ms, default 100)."
  @spec start_link(keyword()) :: GenServer.on_start()
  def start_link(opts), do: GenServer.start_link(__MODULE__, Map.new(Keyword.validate!(opts, [:queue, every: 100])))

  @impl true
  def init(state), do: {:ok, schedule(state)}

  @impl true
  def handle_info(:kill, state) do
    with [_ | _] = workers <- state.queue.workers() do
      workers |> Enum.random() |> Process.exit(:kill)
      Meter.add(:kills)
    end

    {:noreply, schedule(state)}
  end

  defp schedule(state) do
    Process.send_after(self(), :kill, state.every)
    state
  end
end
