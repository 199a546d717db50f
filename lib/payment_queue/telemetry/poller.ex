defmodule PaymentQueue.Telemetry.Poller do
  @moduledoc false
  # Emits a queue's state once per interval, and how far the counters moved that native code raises where no process of
  # ours is told: items that came back, dead letters, and those dropped for newer ones.

  use GenServer

  alias PaymentQueue.Operations
  alias PaymentQueue.Telemetry.Events

  @spec start_link(map()) :: GenServer.on_start()
  def start_link(config), do: GenServer.start_link(__MODULE__, {config.name, config.telemetry.interval})

  @impl true
  def init({queue, interval}) do
    wait(interval)
    {:ok, %{queue: queue, interval: interval, seen: totals(Operations.look(queue), %{})}}
  end

  @impl true
  def handle_info(:poll, state) do
    now = totals(Events.depth(state.queue), state.seen)
    for {event, total} <- now, do: moved(event, total - Map.get(state.seen, event, 0), state.queue)
    wait(state.interval)
    {:noreply, %{state | seen: now}}
  end

  def handle_info(_message, state), do: {:noreply, state}

  # Dead letters leave by `requeue_dead/2` too, so their number may have become smaller.
  # Of a queue in NATS, whose dead letters are those of all nodes, each node reports its own.
  defp totals(%{died: died} = info, _seen),
    do: %{redelivered: info.redelivered, dead_letter: died, dropped: info.dead_dropped}

  defp totals(%{} = info, _seen),
    do: %{redelivered: info.redelivered, dead_letter: info.dead + info.dead_dropped, dropped: info.dead_dropped}

  # Its servers do not answer.
  defp totals({:error, :queue_unavailable}, seen), do: seen

  defp moved(event, count, queue) when count > 0, do: Events.emit([:queue, event], %{count: count}, %{queue: queue})
  defp moved(_event, _count, _queue), do: :ok

  defp wait(interval), do: Process.send_after(self(), :poll, interval)
end
