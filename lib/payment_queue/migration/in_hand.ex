defmodule PaymentQueue.Migration.InHand do
  @moduledoc false
  # The item that was taken from the legacy queue and could not be put into the new one yet. It waits in a small native
  # queue of its own, which outlives the drainer and everything else in the VM, and is held by a lease while somebody tries
  # to find it a place: whoever dies over it, it is there for the next one.

  alias PaymentQueue.Migration.{Legacy, Route}
  alias PaymentQueue.{Native, Taking}

  # Nothing that a legacy queue hands out is refused here: the most that the options of a queue allow.
  @settings {1_000, 17_179_869_183, 1_073_741_823, 65_535, 1_000}

  @doc "How many items are there: one, or none. More only if drainers were killed one after the other."
  @spec count(Route.t()) :: non_neg_integer()
  def count(%{in_hand: name}) do
    case Native.stats(name) do
      %{queue_size: waiting, in_flight: held} -> waiting + held
      {:error, :queue_unavailable} -> 0
    end
  end

  @doc "Keeps an item."
  @spec keep(Route.t(), term()) :: :ok | {:error, term()}
  def keep(%{in_hand: name}, payload) do
    with {:error, :queue_unavailable} <- PaymentQueue.enqueue(payload, queue: name) do
      Native.open(name, @settings)
      PaymentQueue.enqueue(payload, queue: name)
    end
  end

  @doc """
  Offers what is kept to the function, one after the other, for as long as it says `:ok`. What it refuses stays.
  """
  @spec offer(Route.t(), (term() -> :ok | refusal)) :: {:ok, non_neg_integer()} | {refusal, non_neg_integer()}
        when refusal: term()
  def offer(route, fun), do: if(count(route) == 0, do: {:ok, 0}, else: offer(route.in_hand, fun, 0))

  defp offer(name, fun, n) do
    case Taking.take(name, nil, 0) do
      :empty ->
        {:ok, n}

      {:ok, payload, lease} ->
        case fun.(payload) do
          :ok ->
            Native.ack(lease)
            offer(name, fun, n + 1)

          refusal ->
            # The attempt does not count: nothing is wrong with the item.
            Native.release(lease, 0)
            {refusal, n}
        end
    end
  end

  @doc """
  Gives what is kept back to the legacy queue or, if that does not take it, to the new one: `:ok`, or `:refused` by both.
  """
  @spec put_back(Route.t()) :: :ok | :refused
  def put_back(%{legacy: legacy, queue: queue} = route) do
    {result, _} =
      offer(route, fn payload ->
        if Legacy.put_back(legacy, payload) or PaymentQueue.enqueue(payload, queue: queue) == :ok,
          do: :ok,
          else: :refused
      end)

    result
  end
end
