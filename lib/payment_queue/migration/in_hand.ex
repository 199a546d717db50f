defmodule PaymentQueue.Migration.InHand do
  @moduledoc false
  # The item that was taken from the legacy queue and could not be put into the new one yet. It waits in a small native
  # queue of its own, which outlives the drainer and everything else in the VM, and is held by a lease while somebody tries
  # to find it a place: whoever dies over it, it is there for the next one.

  require Logger

  alias PaymentQueue.Migration.{Legacy, Route}
  alias PaymentQueue.{Native, Options, Taking}

  # Nothing that a legacy queue hands out is refused here: the most that the options of a queue allow.
  @options [capacity: 1_000, max_bytes: 17_179_869_183, max_payload_bytes: 1_073_741_823, max_attempts: 65_535]

  @doc "How many items are there: one, or none. More only if drainers were killed one after the other."
  @spec count(Route.t()) :: non_neg_integer()
  def count(%{in_hand: name}) do
    case Native.stats(name) do
      %{queue_size: waiting, in_flight: held} -> waiting + held
      {:error, :queue_unavailable} -> 0
    end
  end

  @doc "Keeps an item."
  @spec keep!(Route.t(), term()) :: :ok
  def keep!(route, payload) do
    with {:error, reason} <- enqueue(route.in_hand, payload),
         false <- Legacy.put_back(route.legacy, payload) do
      # Over a gigabyte, and the queue that it came from does not want it back.
      Logger.error(
        "PaymentQueue.Migration #{inspect(route.name)}: lost an item that no queue takes (#{inspect(reason)})"
      )
    else
      _ -> :ok
    end
  end

  defp enqueue(name, payload) do
    with {:error, :queue_unavailable} <- PaymentQueue.enqueue(payload, queue: name) do
      Native.open(name, @options |> Options.start!() |> Options.settings())
      PaymentQueue.enqueue(payload, queue: name)
    end
  end

  @doc "Offers the oldest to the function; it stays unless that says `:ok`. `:none`: there is none."
  @spec offer_one(Route.t(), (term() -> :ok | refusal)) :: :ok | :none | refusal when refusal: term()
  def offer_one(%{in_hand: name} = route, fun) do
    with true <- count(route) > 0,
         {:ok, payload, lease} <- Taking.take(name, nil, 0) do
      offered(fun.(payload), lease)
    else
      _ -> :none
    end
  end

  defp offered(:ok, lease) do
    _ = Native.ack(lease)
    :ok
  end

  # The attempt does not count: nothing is wrong with the item.
  defp offered(refusal, lease) do
    _ = Native.release(lease, 0)
    refusal
  end

  @doc """
  Gives what is kept back to the legacy queue or, if that does not take it, to the new one: `:ok`, or `:refused` by both.
  """
  @spec put_back(Route.t()) :: :ok | :refused
  def put_back(%{legacy: legacy, queue: queue} = route) do
    offer = fn payload ->
      if Legacy.put_back(legacy, payload) or PaymentQueue.enqueue(payload, queue: queue) == :ok, do: :ok, else: :refused
    end

    case offer_one(route, offer) do
      :ok -> put_back(route)
      :none -> :ok
      :refused -> :refused
    end
  end
end
