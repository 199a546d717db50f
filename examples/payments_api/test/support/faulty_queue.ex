defmodule PaymentsApi.FaultyQueue do
  @moduledoc """
  A queue with custody, in one process, that can be told to break it: what the demo's books must notice.

  `fault/1` is one of `:none`, `:loses_on_kill`, `:redelivers_after_ack`, `:hands_out_twice`, `:settles_unhandled`.
  """

  @behaviour PaymentsApi.Queue

  use GenServer

  alias PaymentsApi.Payer

  # One in so many items meets the fault.
  @one_in 50

  @spec fault(atom()) :: :ok
  def fault(name), do: :persistent_term.put(__MODULE__, name)

  @impl PaymentsApi.Queue
  def child_spec(opts), do: %{id: __MODULE__, start: {GenServer, :start_link, [__MODULE__, opts, [name: __MODULE__]]}}

  @impl PaymentsApi.Queue
  def enqueue(payment), do: GenServer.call(__MODULE__, {:enqueue, payment})

  @impl PaymentsApi.Queue
  def stats, do: GenServer.call(__MODULE__, :stats)

  @impl PaymentsApi.Queue
  def workers, do: GenServer.call(__MODULE__, :workers)

  @impl PaymentsApi.Queue
  def dead, do: GenServer.call(__MODULE__, :dead)

  @impl PaymentsApi.Queue
  def account, do: %{}

  @impl PaymentsApi.Queue
  def drain(timeout), do: GenServer.call(__MODULE__, :drain, timeout)

  @impl GenServer
  def init(opts) do
    # workers: monitor => {pid, payment or nil}; takers: those who wait for an item.
    state = %{capacity: opts[:capacity], items: [], workers: %{}, takers: [], dead: [], drained: nil}
    {:ok, Enum.reduce(1..opts[:concurrency], state, fn _, state -> start_worker(state) end)}
  end

  @impl GenServer
  def handle_call({:enqueue, _}, _from, %{drained: from} = state) when from != nil,
    do: {:reply, {:error, :queue_closed}, state}

  def handle_call({:enqueue, payment}, _from, state) do
    cond do
      length(state.items) >= state.capacity -> {:reply, {:error, :queue_full}, state}
      unlucky?(:settles_unhandled) -> {:reply, :ok, state}
      true -> {:reply, :ok, hand_out(%{state | items: state.items ++ [payment]})}
    end
  end

  def handle_call(:take, from, state), do: {:noreply, hand_out(%{state | takers: state.takers ++ [from]})}

  def handle_call({:done, payment, answer}, {pid, _}, state),
    do: {:reply, :ok, state |> release(pid) |> done(payment, answer)}

  def handle_call(:stats, _from, state), do: {:reply, %{queue_size: length(state.items), in_flight: held(state)}, state}
  def handle_call(:workers, _from, state), do: {:reply, for({_, {pid, _}} <- state.workers, do: pid), state}
  def handle_call(:dead, _from, state), do: {:reply, state.dead, state}
  def handle_call(:drain, from, state), do: {:noreply, hand_out(%{state | drained: from})}

  @impl GenServer
  def handle_info({:DOWN, monitor, :process, pid, _reason}, state) do
    {{^pid, payment}, workers} = Map.pop!(state.workers, monitor)
    takers = Enum.reject(state.takers, fn {taker, _} -> taker == pid end)
    items = if payment && not unlucky?(:loses_on_kill, 1), do: [payment | state.items], else: state.items
    {:noreply, hand_out(start_worker(%{state | workers: workers, takers: takers, items: items}))}
  end

  def handle_info({:again, payment}, state), do: {:noreply, hand_out(%{state | items: [payment | state.items]})}

  defp start_worker(state) do
    owner = self()
    {pid, monitor} = spawn_monitor(fn -> loop(owner) end)
    put_in(state.workers[monitor], {pid, nil})
  end

  defp loop(owner) do
    payment = GenServer.call(owner, :take, :infinity)
    GenServer.call(owner, {:done, payment, Payer.handle(payment)})
    loop(owner)
  end

  defp hand_out(%{items: [payment | items], takers: [{pid, _} = taker | takers]} = state) do
    GenServer.reply(taker, payment)
    items = if unlucky?(:hands_out_twice), do: [payment | items], else: items
    workers = Map.new(state.workers, fn {m, {p, held}} -> {m, {p, if(p == pid, do: payment, else: held)}} end)
    hand_out(%{state | items: items, takers: takers, workers: workers})
  end

  defp hand_out(state) do
    if state.drained && state.items == [] && held(state) == 0, do: GenServer.reply(state.drained, :ok)
    state
  end

  defp release(state, pid) do
    %{state | workers: Map.new(state.workers, fn {m, {p, held}} -> {m, {p, if(p == pid, do: nil, else: held)}} end)}
  end

  defp done(state, payment, :ok) do
    # Late enough for the worker to have gone on to its next item.
    if unlucky?(:redelivers_after_ack), do: Process.send_after(self(), {:again, payment}, 20)
    hand_out(state)
  end

  defp done(state, payment, {:cancel, _reason}), do: hand_out(%{state | dead: [payment | state.dead]})
  defp done(state, payment, {:error, _reason}), do: hand_out(%{state | items: state.items ++ [payment]})

  defp held(state), do: Enum.count(state.workers, fn {_, {_, held}} -> held != nil end)

  defp unlucky?(fault, one_in \\ @one_in),
    do: :persistent_term.get(__MODULE__, :none) == fault and :rand.uniform(one_in) == 1
end
