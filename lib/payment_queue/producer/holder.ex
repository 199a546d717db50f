defmodule PaymentQueue.Producer.Holder do
  @moduledoc false
  # Takes what the producers of a pipeline are asked for, and has custody of it until it is acknowledged. A process of its
  # own, because items come back when their holder dies: were that the producer, its death would hand out a second time what
  # the processors behind it are still working on. It takes nothing that was not demanded, runs nobody's code, and is parked in
  # the NIF while the queue is empty.

  use GenServer

  alias PaymentQueue.{Operations, Taking}

  @doc """
  Options: `queue:`; `name:`; and either `owner:`, the one producer with which it ends, or, in a supervised pipeline, none: then it
  takes nothing before `arm/1`.
  """
  @spec start_link(keyword()) :: GenServer.on_start()
  def start_link(opts), do: GenServer.start_link(__MODULE__, opts, Keyword.take(opts, [:name]))

  @doc "Asks for `n` items more. They come to the caller as messages `{PaymentQueue.Producer.Holder, [{payload, lease}]}`."
  @spec demand(GenServer.server(), pos_integer()) :: :ok
  def demand(holder, n), do: GenServer.cast(holder, {:demand, self(), n})

  @doc "From now on the pipeline is watched, and items may be taken."
  @spec arm(GenServer.server()) :: :ok
  def arm(holder), do: GenServer.cast(holder, :arm)

  @doc "Forgets what the caller asked for. What was taken for it before is in its mailbox when this returns."
  @spec leave(GenServer.server()) :: :ok
  def leave(holder) do
    GenServer.call(holder, {:leave, self()}, :infinity)
  catch
    # Gone with the pipeline, and its items are back already.
    :exit, _ -> :ok
  end

  @impl true
  def init(opts) do
    queue = Keyword.fetch!(opts, :queue)
    _ = Operations.call(queue, :settings)
    owner = opts[:owner]
    if owner, do: Process.monitor(owner)
    # demand: {producer, n}, first come, first served; token: of the parking, if it is parked.
    {:ok, %{queue: queue, owner: owner, armed?: owner != nil, demand: :queue.new(), token: nil}}
  end

  @impl true
  def handle_cast({:demand, pid, n}, state), do: {:noreply, serve(%{state | demand: :queue.in({pid, n}, state.demand)})}
  def handle_cast(:arm, state), do: {:noreply, serve(%{state | armed?: true})}

  @impl true
  def handle_call({:leave, pid}, _from, state) do
    demand = :queue.filter(fn {asker, _} -> asker != pid end, state.demand)
    {:reply, :ok, unpark(%{state | demand: demand})}
  end

  @impl true
  def handle_info({:payment_queue, :delivered, token, delivery}, %{token: token} = state),
    do: {:noreply, serve(delivered(%{state | token: nil}, delivery))}

  def handle_info({:DOWN, _, :process, owner, _}, %{owner: owner} = state), do: {:stop, :normal, state}
  def handle_info(_message, state), do: {:noreply, state}

  defp serve(%{armed?: true, token: nil} = state) do
    case :queue.out(state.demand) do
      {:empty, _} -> state
      {{:value, {pid, n}}, rest} -> serve(%{state | demand: rest}, pid, n)
    end
  end

  defp serve(state), do: state

  defp serve(state, pid, n) do
    items = Taking.many(state.queue, n)
    if items != [], do: give(pid, items)

    case n - length(items) do
      0 -> serve(state)
      left -> park(first(state, pid, left))
    end
  end

  defp park(state) do
    case Taking.park(state.queue) do
      {:parked, token} -> %{state | token: token}
      taken -> state |> got(taken) |> serve()
    end
  end

  # The one who asked has left, too late to stop the delivery. Nobody has seen the item.
  defp delivered(state, delivery) do
    if :queue.is_empty(state.demand) do
      Taking.give_back(delivery)
      state
    else
      got(state, Taking.received(delivery))
    end
  end

  defp got(state, {:ok, payload, lease}) do
    {{:value, {pid, n}}, rest} = :queue.out(state.demand)
    give(pid, [{payload, lease}])
    if n > 1, do: first(%{state | demand: rest}, pid, n - 1), else: %{state | demand: rest}
  end

  defp got(state, :stale), do: state

  defp first(state, pid, n), do: %{state | demand: :queue.in_r({pid, n}, state.demand)}

  defp give(pid, items), do: send(pid, {__MODULE__, items})

  defp unpark(%{token: token} = state) when token != nil do
    if :queue.is_empty(state.demand) and Operations.call(state.queue, :unpark, [token]) == :ok,
      do: %{state | token: nil},
      else: state
  end

  defp unpark(state), do: state
end
