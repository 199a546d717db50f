defmodule PaymentQueue.Migration.Drainer do
  @moduledoc false
  # One drain at a time: starts its `Mover`, answers those who wait for it, and sees to it that no item stays in hand when it
  # is over. The drain stops as soon as the legacy queue gets new items again, so a rollback needs nothing but the mode.
  #
  # It is found by way of its supervisor rather than by a name of its own: after a kill of the supervisor it may still wait
  # for what is in hand, and must not stand in the way of the next tree.

  use GenServer

  require Logger

  alias PaymentQueue.Migration.{InHand, Mover, Route}
  alias PaymentQueue.Migration.Supervisor, as: Tree
  alias PaymentQueue.Taking

  # How long it waits before it offers an item that neither side took again, doubled each time.
  @first_wait_ms 1
  @max_wait_ms 100

  @type result :: {:ok, non_neg_integer()} | {:error, term(), non_neg_integer()}

  @spec start_link(Route.t()) :: GenServer.on_start()
  def start_link(%Route{name: name}), do: GenServer.start_link(__MODULE__, name)

  @doc "Drains for at most `timeout` ms; whoever calls meanwhile gets the same answer."
  @spec drain(pid() | nil, pos_integer(), timeout()) :: result()
  def drain(nil, _max_depth, _timeout), do: {:error, :not_running, 0}

  def drain(drainer, max_depth, timeout) do
    GenServer.call(drainer, {:drain, max_depth, timeout}, :infinity)
  catch
    :exit, {:noproc, _} -> {:error, :not_running, 0}
    :exit, _ -> {:error, :stopped, 0}
  end

  @doc """
  Lets the drainer look for what a mover without a drainer has left in hand. If there is none, the next one looks as it
  starts.
  """
  @spec inherit(atom()) :: :ok
  def inherit(name) do
    with pid when is_pid(pid) <- Tree.drainer(name), do: GenServer.cast(pid, :inherit)
    :ok
  end

  @impl true
  def init(name) do
    Process.flag(:trap_exit, true)
    {:ok, idle(name), {:continue, :inherit}}
  end

  defp idle(name), do: %{name: name, callers: [], mover: nil, wait: @first_wait_ms, timer: nil}

  @impl true
  def handle_continue(:inherit, state), do: {:noreply, put_back(state)}

  @impl true
  def handle_cast(:inherit, %{mover: nil} = state), do: {:noreply, put_back(state)}
  # While there is a drain, that one looks after what is in hand.
  def handle_cast(:inherit, state), do: {:noreply, state}

  @impl true
  def handle_call({:drain, max_depth, timeout}, from, %{mover: nil} = state) do
    mover = state.name |> Route.fetch!() |> Mover.start(max_depth, Taking.deadline(timeout))
    {:noreply, %{state | callers: [from], mover: mover}}
  end

  def handle_call({:drain, _, _}, from, state), do: {:noreply, %{state | callers: [from | state.callers]}}

  @impl true
  def handle_info({:moved, pid, result, moved}, %{mover: {pid, monitor}} = state) do
    Process.demonitor(monitor, [:flush])
    {:noreply, finish(state, result, moved)}
  end

  def handle_info({:DOWN, monitor, :process, pid, _}, %{mover: {pid, monitor}} = state),
    do: {:noreply, finish(state, {:error, :stopped}, 0)}

  def handle_info({:timeout, timer, :put_back}, %{mover: nil, timer: timer} = state), do: {:noreply, put_back(state)}
  def handle_info(_message, state), do: {:noreply, state}

  @impl true
  def terminate(_reason, %{mover: nil}), do: :ok

  def terminate(_reason, %{mover: {pid, monitor}} = state) do
    Mover.stop(pid)

    receive do
      {:moved, ^pid, result, moved} -> finish(state, result, moved)
      {:DOWN, ^monitor, :process, ^pid, _} -> finish(state, {:error, :stopped}, 0)
    end
  end

  # The answer comes last: who has it finds the item where it belongs.
  defp finish(state, result, moved) do
    answer =
      case result do
        :empty -> {:ok, moved}
        {:error, reason} -> {:error, reason, moved}
      end

    idle = put_back(idle(state.name))
    Enum.each(state.callers, &GenServer.reply(&1, answer))
    idle
  end

  # An item must not stay in hand without a drain: while neither side has room for it, it is offered again and again.
  defp put_back(%{name: name, wait: wait} = state) do
    case InHand.put_back(Route.fetch!(name)) do
      :ok ->
        %{state | wait: @first_wait_ms}

      :refused ->
        if wait == @first_wait_ms do
          Logger.warning("PaymentQueue.Migration #{inspect(name)}: neither side takes an item back; it is kept")
        end

        timer = :erlang.start_timer(wait, self(), :put_back)
        %{state | timer: timer, wait: min(2 * wait, @max_wait_ms)}
    end
  end
end
