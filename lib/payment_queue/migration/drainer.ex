defmodule PaymentQueue.Migration.Drainer do
  @moduledoc false
  # Moves what waits in the legacy queue into the new one, one item at a time: take it there, enqueue it here, and only
  # then the next. It stops as soon as the legacy queue gets new items again, so a rollback needs nothing but the mode.
  #
  # A legacy queue knows no leases: what it has handed out is in this process's hands alone. So it is taken only when
  # there is room for it, and no message is received, nothing logged and nobody called between the two calls. What is
  # refused all the same goes to `InHand`. What remains, and no drainer can close, is a kill between the two calls: an
  # exit that can be trapped waits until the step is done.

  use GenServer

  require Logger

  alias PaymentQueue.Migration.{InHand, Legacy, Mode, Route}
  alias PaymentQueue.Taking

  # Items a step; between two steps the process listens.
  @slice 50
  # How long it waits for room, doubled as long as there is none.
  @first_wait_ms 1
  @max_wait_ms 100

  @type result :: {:ok, non_neg_integer()} | {:error, term(), non_neg_integer()}

  @spec start_link(Route.t()) :: GenServer.on_start()
  def start_link(%Route{name: name}), do: GenServer.start_link(__MODULE__, name, name: name(name))

  @spec name(atom()) :: atom()
  def name(name), do: :"#{inspect(__MODULE__)}.#{name}"

  @doc "Drains for at most `timeout` ms; whoever calls meanwhile gets the same answer."
  @spec drain(atom(), pos_integer(), timeout()) :: result()
  def drain(name, max_depth, timeout) do
    GenServer.call(name(name), {:drain, max_depth, timeout}, :infinity)
  catch
    :exit, {:noproc, _} -> {:error, :not_running, 0}
    :exit, _ -> {:error, :stopped, 0}
  end

  @impl true
  def init(name) do
    Process.flag(:trap_exit, true)
    {:ok, idle(name), {:continue, :inherit}}
  end

  # What a killed predecessor left.
  @impl true
  def handle_continue(:inherit, state), do: {:noreply, state.name |> Route.fetch!() |> put_back(state)}

  defp idle(name),
    do: %{name: name, callers: [], moved: 0, max_depth: 0, deadline: :infinity, wait: @first_wait_ms, timer: nil}

  @impl true
  def handle_call({:drain, max_depth, timeout}, from, %{callers: []} = state) do
    send(self(), :step)
    {:noreply, %{state | callers: [from], max_depth: max_depth, deadline: Taking.deadline(timeout)}}
  end

  def handle_call({:drain, _, _}, from, state), do: {:noreply, %{state | callers: [from | state.callers]}}

  @impl true
  def handle_info(:step, %{callers: [_ | _]} = state), do: {:noreply, state.name |> Route.fetch!() |> step(state)}

  # While there is a drain, that one looks after what is in hand.
  def handle_info({:timeout, timer, :put_back}, %{callers: [], timer: timer} = state),
    do: {:noreply, state.name |> Route.fetch!() |> put_back(state)}

  def handle_info(_message, state), do: {:noreply, state}

  @impl true
  def terminate(_reason, state), do: finish(Route.fetch!(state.name), {:error, :stopped}, state)

  defp step(route, state) do
    {result, moved} = move_kept(route, state.max_depth)
    {result, moved} = if result == :ok, do: move(route, state.max_depth, @slice, moved), else: {result, moved}
    state = %{state | moved: state.moved + moved}

    cond do
      result not in [:ok, :no_room] -> finish(route, result, state)
      Taking.remaining(state.deadline) == 0 -> finish(route, {:error, :timeout}, state)
      result == :ok -> again(state, 0, @first_wait_ms)
      moved > 0 -> again(state, @first_wait_ms, 2 * @first_wait_ms)
      true -> again(state, state.wait, min(2 * state.wait, @max_wait_ms))
    end
  end

  defp again(state, ms, next_wait) do
    ms = min(ms, Taking.remaining(state.deadline))
    if ms == 0, do: send(self(), :step), else: Process.send_after(self(), :step, ms)
    %{state | wait: next_wait}
  end

  defp finish(_route, _result, %{callers: []} = state), do: state

  defp finish(route, result, state) do
    answer =
      case result do
        :empty -> {:ok, state.moved}
        {:error, reason} -> {:error, reason, state.moved}
      end

    # The answer comes last: who has it finds the item where it belongs.
    idle = put_back(route, idle(state.name))
    Enum.each(state.callers, &GenServer.reply(&1, answer))
    idle
  end

  # An item must not stay in hand without a drain: while neither side has room for it, it is offered again and again.
  defp put_back(route, state) do
    case InHand.put_back(route) do
      :ok ->
        %{state | wait: @first_wait_ms}

      :refused ->
        if state.wait == @first_wait_ms do
          Logger.warning("PaymentQueue.Migration #{inspect(route.name)}: neither side takes an item back; it is kept")
        end

        timer = :erlang.start_timer(state.wait, self(), :put_back)
        %{state | timer: timer, wait: min(2 * state.wait, @max_wait_ms)}
    end
  end

  # --- one item ------------------------------------------------------------------------------------------------------

  # `:ok`: go on; `:no_room`: wait; `:empty` or an error: the end.
  defp move(_route, _max_depth, 0, moved), do: {:ok, moved}

  defp move(route, max_depth, left, moved) do
    with :ok <- may_take(route, max_depth),
         {:ok, payload} <- Legacy.take(route.legacy, route.take),
         :ok <- put(route, payload) do
      move(route, max_depth, left - 1, moved + 1)
    else
      end_of_step -> {end_of_step, moved}
    end
  end

  defp move_kept(route, max_depth) do
    with :ok <- may_take(route, max_depth) do
      InHand.offer(route, fn payload -> answer(PaymentQueue.enqueue(payload, queue: route.queue)) end)
    else
      end_of_step -> {end_of_step, 0}
    end
  end

  defp may_take(%{queue: queue} = route, max_depth) do
    cond do
      Mode.legacy?(Route.mode(route)) -> {:error, :legacy_in_use}
      PaymentQueue.stats(queue).queue_size >= max_depth -> :no_room
      true -> :ok
    end
  end

  defp put(%{queue: queue} = route, payload) do
    with refused when refused != :ok <- answer(PaymentQueue.enqueue(payload, queue: queue)) do
      keep(route, payload)
      refused
    end
  end

  defp keep(route, payload) do
    with {:error, reason} <- InHand.keep(route, payload),
         false <- Legacy.put_back(route.legacy, payload) do
      # Over a gigabyte, and the queue that it came from does not want it back.
      Logger.error("PaymentQueue.Migration: an item was lost: no queue takes it (#{inspect(reason)})")
    end
  end

  defp answer(:ok), do: :ok
  defp answer({:error, :queue_full}), do: :no_room
  defp answer({:error, _} = error), do: error
end
