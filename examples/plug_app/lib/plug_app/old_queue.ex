defmodule PlugApp.OldQueue do
  @moduledoc "The queue to be replaced: one process, no bound, no leases."

  use GenServer

  def start_link(_), do: GenServer.start_link(__MODULE__, :queue.new(), name: __MODULE__)

  def enqueue(payment), do: GenServer.cast(__MODULE__, {:enqueue, payment})
  def stats, do: GenServer.call(__MODULE__, :stats, :infinity)

  @doc "For the workers, and later for the drain. Without a timeout: a late answer would be a lost payment."
  def take, do: GenServer.call(__MODULE__, :take, :infinity)

  @impl true
  def init(queue), do: {:ok, queue}

  @impl true
  def handle_cast({:enqueue, payment}, queue), do: {:noreply, :queue.in(payment, queue)}

  @impl true
  def handle_call(:stats, _from, queue), do: {:reply, %{queue_size: :queue.len(queue), in_flight: 0}, queue}

  def handle_call(:take, _from, queue) do
    case :queue.out(queue) do
      {{:value, payment}, queue} -> {:reply, {:ok, payment}, queue}
      {:empty, queue} -> {:reply, :empty, queue}
    end
  end
end
