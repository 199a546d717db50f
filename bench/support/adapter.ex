defmodule PaymentQueue.Bench.Adapter do
  @moduledoc """
  One shape for the three queues, so that all cells run the same loops on each.

  A worker gives the lease of the item that it has finished back with its next `take/2`; the replaced queues know no
  leases and ignore it.
  """

  @type handle :: term()
  @type payload :: term()
  @type lease :: term()

  @doc "The queue's name in the tables."
  @callback name() :: String.t()

  @doc "An empty queue with this capacity, if it knows one in the form that was used most."
  @callback start(capacity :: pos_integer()) :: handle()

  @doc "An empty queue in the form that has this capacity."
  @callback start_bounded(capacity :: pos_integer()) :: handle()

  @doc "Whether `start/1` makes a queue with a capacity; otherwise the bench must limit what it puts in."
  @callback bounded?() :: boolean()
  @callback stop(handle()) :: :ok

  @callback put(handle(), payload()) :: :ok | {:error, :queue_full}

  @doc "Puts the first `accepted` of the payloads, at most all."
  @callback put_many(handle(), [payload()]) :: accepted :: non_neg_integer()

  @doc "Settles the last item, if any, and takes the next; waits for it as the queue's workers wait."
  @callback take(handle(), last :: lease() | nil) :: {payload(), lease()}

  @doc "Takes and settles in one, as the replaced queues do: whoever dies now has lost the item. There is no lease."
  @callback take_once(handle(), nil) :: {payload(), nil}

  @doc "Settles the last items and takes at least one and at most `n`."
  @callback take_many(handle(), n :: pos_integer(), last :: [lease()]) :: {[payload()], [lease()]}

  @callback settle(handle(), lease() | nil) :: :ok

  @callback stats(handle()) :: %{queue_size: non_neg_integer(), in_flight: non_neg_integer()}

  @doc "Whether the one taker is waiting as deeply as this queue lets it wait."
  @callback waiting?(handle()) :: boolean()

  @doc "Memory of the queue and what it holds, as the queue or its runtime accounts for it."
  @callback bytes(handle()) :: non_neg_integer()

  @adapters [PaymentQueue.Bench.GenServerAdapter, PaymentQueue.Bench.EtsAdapter, PaymentQueue.Bench.NativeAdapter]

  @doc "All adapters, in the order of the tables' columns."
  @spec all() :: [module()]
  def all, do: @adapters

  @doc """
  `put/2` until there is room. Every producer of every queue waits for room in this way.

  Takes the function rather than the module: calling a module that is known only at run time costs 20 ns, which would be time
  of the bench.
  """
  @spec put_retrying((handle(), payload() -> :ok | {:error, :queue_full}), handle(), payload()) :: :ok
  def put_retrying(put, handle, payload) do
    case put.(handle, payload) do
      :ok ->
        :ok

      {:error, :queue_full} ->
        :erlang.yield()
        put_retrying(put, handle, payload)
    end
  end

  @doc "The same for `put_many/2`."
  @spec put_many_retrying(module(), handle(), [payload()]) :: :ok
  def put_many_retrying(_adapter, _handle, []), do: :ok

  def put_many_retrying(adapter, handle, payloads) do
    case adapter.put_many(handle, payloads) do
      0 ->
        :erlang.yield()
        put_many_retrying(adapter, handle, payloads)

      accepted ->
        put_many_retrying(adapter, handle, Enum.drop(payloads, accepted))
    end
  end
end
