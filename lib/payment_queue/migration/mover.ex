defmodule PaymentQueue.Migration.Mover do
  @moduledoc false
  # Moves items from the legacy queue into the new one for one drain: take one there, enqueue it here, then the next.
  #
  # A legacy queue knows no leases: what it has handed out, or is about to hand out to a call that waits, is in this process's
  # hands alone. So this process is linked to nobody, registered nowhere and supervised by none. A kill of the drainer, of
  # the supervisor or of the whole tree does not reach it: it brings its item to an end and only then stops. An item is
  # taken only when there is room for it, and what is refused all the same goes to `InHand` at once.

  alias PaymentQueue.Migration.{Drainer, InHand, Legacy, Mode, Route}
  alias PaymentQueue.Taking

  # How long it waits for room, doubled as long as there is none.
  @first_wait_ms 1
  @max_wait_ms 100

  @doc """
  Starts moving for the caller, until `stop/1` or the caller's death at the latest. At the end the message
  `{:moved, pid, result, n}` says why it ended (`:empty` or `{:error, reason}`) and how many were moved.
  """
  @spec start(Route.t(), pos_integer(), integer() | :infinity) :: {pid(), reference()}
  def start(route, max_depth, deadline) do
    drainer = self()

    spawn_monitor(fn ->
      state = %{route: route, max_depth: max_depth, deadline: deadline, drainer: Process.monitor(drainer)}
      {result, moved} = loop(state, 0, @first_wait_ms)
      send(drainer, {:moved, self(), result, moved})
      if result == :orphaned, do: Drainer.inherit(route.name)
    end)
  end

  @doc "Asks it to end after its present item."
  @spec stop(pid()) :: :ok
  def stop(mover) do
    send(mover, :stop)
    :ok
  end

  # Listens for as long as it waited for room, and between any two items.
  defp loop(%{drainer: drainer} = state, moved, wait, listen \\ 0) do
    receive do
      :stop -> {{:error, :stopped}, moved}
      {:DOWN, ^drainer, :process, _, _} -> {:orphaned, moved}
    after
      listen -> state |> next() |> continue(state, moved, wait)
    end
  end

  defp continue(:ok, state, moved, _wait), do: loop(state, moved + 1, @first_wait_ms)

  defp continue(:no_room, state, moved, wait) do
    case Taking.remaining(state.deadline) do
      0 -> {{:error, :timeout}, moved}
      left -> loop(state, moved, min(2 * wait, @max_wait_ms), min(wait, left))
    end
  end

  defp continue(result, _state, moved, _wait), do: {result, moved}

  # `:ok`: one item is in; `:no_room`: wait; `:empty` or an error: the end.
  defp next(%{route: route} = state) do
    with :ok <- may_take(state) do
      case InHand.offer_one(route, &put(route, &1)) do
        :none -> take(route)
        result -> result
      end
    end
  end

  defp may_take(%{route: %{queue: queue} = route} = state) do
    cond do
      Mode.legacy?(Route.mode(route)) -> {:error, :legacy_in_use}
      PaymentQueue.stats(queue).queue_size >= state.max_depth -> :no_room
      Taking.remaining(state.deadline) == 0 -> {:error, :timeout}
      true -> :ok
    end
  end

  defp take(route) do
    with {:ok, payload} <- Legacy.take(route.legacy, route.take),
         refused when refused != :ok <- put(route, payload) do
      InHand.keep!(route, payload)
      refused
    end
  end

  defp put(%{queue: queue}, payload) do
    case PaymentQueue.enqueue(payload, queue: queue) do
      :ok -> :ok
      {:error, :queue_full} -> :no_room
      {:error, _} = error -> error
    end
  end
end
