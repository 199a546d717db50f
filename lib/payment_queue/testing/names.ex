defmodule PaymentQueue.Testing.Names do
  @moduledoc false
  # Lends queue names to tests. A queue can never be destroyed and an atom never collected, so names come from a bounded
  # set and are lent again: a returned queue has its tree stopped and its items and dead letters removed first. Owners
  # are monitored, so a test that is killed returns its names, too.

  use GenServer

  alias PaymentQueue.{Native, Operations}

  @max_names 256
  @prefix "payment_queue_test_"

  @doc "A name that no other living process has, returned when the caller dies."
  @spec checkout() :: atom()
  def checkout do
    case GenServer.call(server(), :checkout, :infinity) do
      {:ok, name} -> name
      :none -> raise "all #{@max_names} test queues are lent out; checkin/1 returns one before its test ends"
    end
  end

  @doc "Returns a name; nothing happens if it was returned before."
  @spec checkin(atom()) :: :ok
  def checkin(name), do: GenServer.call(server(), {:checkin, name}, :infinity)

  # Not linked: it must outlive the first test that asks.
  defp server do
    case GenServer.start(__MODULE__, [], name: __MODULE__) do
      {:ok, pid} -> pid
      {:error, {:already_started, pid}} -> pid
    end
  end

  @impl true
  def init([]) do
    # If a predecessor was killed, nobody knows what it had lent out: go on with names that were never used.
    # cleaning: monitor of the cleaner => {name, callers to tell}.
    {:ok, %{free: [], next: last_used() + 1, lent: %{}, cleaning: %{}, dirty: []}}
  end

  defp last_used do
    Enum.reduce(Native.queues(), 0, fn queue, last ->
      case Atom.to_string(queue) do
        @prefix <> n -> max(String.to_integer(n), last)
        _ -> last
      end
    end)
  end

  @impl true
  def handle_call(:checkout, {owner, _}, state) do
    case next(state) do
      {nil, state} -> {:reply, :none, state}
      {name, state} -> {:reply, {:ok, name}, put_in(state.lent[Process.monitor(owner)], name)}
    end
  end

  def handle_call({:checkin, name}, from, state) do
    lent = Enum.find(state.lent, fn {_, lent} -> lent == name end)
    cleaning = Enum.find(state.cleaning, fn {_, {cleaning, _}} -> cleaning == name end)

    case {lent, cleaning} do
      {{monitor, _}, _} ->
        Process.demonitor(monitor, [:flush])
        {:noreply, clean(%{state | lent: Map.delete(state.lent, monitor)}, name, [from])}

      {nil, {monitor, {_, callers}}} ->
        {:noreply, put_in(state.cleaning[monitor], {name, [from | callers]})}

      {nil, nil} ->
        {:reply, :ok, state}
    end
  end

  @impl true
  def handle_info({:DOWN, monitor, :process, _, _}, state) do
    case state do
      %{lent: %{^monitor => name}} -> {:noreply, clean(%{state | lent: Map.delete(state.lent, monitor)}, name, [])}
      %{cleaning: %{^monitor => {name, callers}}} -> {:noreply, cleaned(state, monitor, name, callers)}
    end
  end

  # In a process of its own: a running handler may take its time to stop.
  defp clean(state, name, callers) do
    {_, monitor} = spawn_monitor(fn -> empty(name) end)
    put_in(state.cleaning[monitor], {name, callers})
  end

  defp cleaned(state, monitor, name, callers) do
    Enum.each(callers, &GenServer.reply(&1, :ok))
    keep(%{state | cleaning: Map.delete(state.cleaning, monitor)}, name)
  end

  # Items that some process still holds would come back into the next test: such a queue waits until it is clean.
  defp keep(state, name) do
    case Native.stats(name) do
      %{queue_size: 0, in_flight: 0} -> %{state | free: [name | state.free]}
      # Lent, but never started.
      {:error, :queue_unavailable} -> %{state | free: [name | state.free]}
      _ -> %{state | dirty: [name | state.dirty]}
    end
  end

  defp next(%{free: [name | free]} = state), do: {name, %{state | free: free}}
  defp next(%{next: n} = state) when n <= @max_names, do: {:"#{@prefix}#{n}", %{state | next: n + 1}}

  defp next(state) do
    Enum.each(state.dirty, &empty/1)

    case Enum.reduce(state.dirty, %{state | dirty: []}, &keep(&2, &1)) do
      %{free: []} = state -> {nil, state}
      state -> next(state)
    end
  end

  defp empty(name) do
    PaymentQueue.Supervisor.stop(name)

    with :ok <- Native.resume(name) do
      :ok = Native.close(name)
      {:ok, _} = Operations.requeue_dead(name, :all)
      {:ok, _} = Operations.purge(name)
      # The keys of the last borrower are none of the next one's.
      Operations.configure(name, unique_for: nil)
    end
  end
end
