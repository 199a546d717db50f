defmodule PaymentQueue.Producer.Tripwire do
  @moduledoc false
  # Restarts a Broadway pipeline when one of its processes went down. Nobody can tell which messages that process had, and
  # Broadway alone would go on without them: they would be in flight forever.
  #
  #     Broadway's supervisor (rest_for_one)
  #     ├── Tripwire               ends when a process below is gone: then all below are stopped, the last one first,
  #     ├── Holder                 which lets processors finish what they run; the holder ends after all of them, and its
  #     ├── producers              end gives back what was not acknowledged, at a moment when nobody can be working on it
  #     ├── processors
  #     └── batchers ...

  use GenServer

  require Logger

  alias PaymentQueue.Producer.Holder
  alias PaymentQueue.Reason

  @spec start_link(GenServer.server()) :: GenServer.on_start()
  def start_link(holder), do: GenServer.start_link(__MODULE__, holder)

  @impl true
  def init(holder) do
    [supervisor | _] = Process.get(:"$ancestors")
    {:ok, %{supervisor: supervisor, holder: holder, names: %{}}, {:continue, :arm}}
  end

  # The supervisor answers when it has started the whole pipeline. Nothing is taken before everything is watched.
  @impl true
  def handle_continue(:arm, state) do
    names = for pid <- processes(state.supervisor), pid != self(), into: %{}, do: {Process.monitor(pid), name(pid)}
    Holder.arm(state.holder)
    {:noreply, %{state | names: names}}
  end

  defp processes(supervisor) do
    Enum.flat_map(Supervisor.which_children(supervisor), fn
      {_id, pid, :supervisor, _} when is_pid(pid) -> [pid | processes(pid)]
      {_id, pid, :worker, _} when is_pid(pid) -> [pid]
      # Not started, by its own wish.
      {_id, :undefined, _, _} -> []
    end)
  end

  defp name(pid) do
    case Process.info(pid, :registered_name) do
      {:registered_name, name} -> name
      _ -> pid
    end
  end

  @impl true
  def handle_info({:DOWN, monitor, :process, _pid, reason}, state) do
    # Answered only by a supervisor that is not stopping the pipeline: otherwise we are stopped while we wait.
    _ = Supervisor.count_children(state.supervisor)
    name = Map.fetch!(state.names, monitor)

    Logger.error(
      "PaymentQueue.Producer: #{inspect(name)} went down: #{Reason.describe(reason)}; its pipeline is restarted, and what " <>
        "was not acknowledged goes back to the queue"
    )

    {:stop, {:shutdown, {:went_down, name}}, state}
  end

  def handle_info(_message, state), do: {:noreply, state}
end
