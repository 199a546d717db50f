defmodule PaymentQueue.Baseline.GenServerQueue do
  @moduledoc """
  The first replaced queue: one process that holds a `:queue`. Items go in by cast and come out by call.

  It had its capacity in two published forms, and `capacity:` chooses between them:

    * `:infinity` (the default, as it was): `enqueue/2` casts and says `:ok` at once;
    * a number: `enqueue/2` calls, for only the process knows its length, and waits for `:ok` or `{:error, :queue_full}`.

  Where it breaks the laws of `PaymentQueue` (`test/baseline/gen_server_queue_test.exs` shows each):

    * **exact bound**: a cast is `:ok` before anybody accepted the item, and even if the process is dead; the mailbox has no
      bound at all. The form that calls is exact, at the price of a round trip through one mailbox for each request.
    * **custody**: an item is gone as soon as it is handed out, so a killed worker loses it.
    * **survival**: everything queued is the process's heap and mailbox and dies with it.
    * `stats/1` is a call that waits behind the whole mailbox.
  """

  use GenServer

  @behaviour PaymentQueue.Baseline.Queue

  alias PaymentQueue.Baseline.Queue

  @doc "Options: `name:` (default: this module) and `capacity:` (default `:infinity`)."
  @impl Queue
  @spec start_link(keyword()) :: GenServer.on_start()
  def start_link(opts \\ []) do
    name = Keyword.get(opts, :name, __MODULE__)
    capacity = Keyword.get(opts, :capacity, :infinity)
    GenServer.start_link(__MODULE__, {name, capacity}, name: name)
  end

  @impl Queue
  @spec stop(Queue.name()) :: :ok
  def stop(queue \\ __MODULE__), do: GenServer.stop(queue)

  @impl Queue
  @spec enqueue(Queue.payload(), Queue.name()) :: :ok | {:error, :queue_full}
  def enqueue(payload, queue \\ __MODULE__) do
    message = {:enqueue, payload, System.monotonic_time()}

    case :persistent_term.get({__MODULE__, queue}, :infinity) do
      :infinity -> GenServer.cast(queue, message)
      _capacity -> GenServer.call(queue, message)
    end
  end

  @impl Queue
  @spec take(Queue.name()) :: {:ok, Queue.payload(), Queue.wait_ms()} | :empty
  def take(queue \\ __MODULE__) do
    # The mailbox may hold a million casts before this call: any timeout would be a crash of the worker.
    case GenServer.call(queue, :take, :infinity) do
      {:ok, payload, enqueued_at} ->
        {:ok, payload, System.convert_time_unit(System.monotonic_time() - enqueued_at, :native, :millisecond)}

      :empty ->
        :empty
    end
  end

  @impl Queue
  @spec stats(Queue.name()) :: Queue.stats()
  def stats(queue \\ __MODULE__), do: GenServer.call(queue, :stats, :infinity)

  @impl Queue
  @spec worker_started(Queue.name()) :: :ok
  def worker_started(queue \\ __MODULE__), do: GenServer.cast(queue, {:workers, 1})

  @impl Queue
  @spec worker_finished(Queue.name()) :: :ok
  def worker_finished(queue \\ __MODULE__), do: GenServer.cast(queue, {:workers, -1})

  @impl GenServer
  def init({name, capacity}) do
    :persistent_term.put({__MODULE__, name}, capacity)
    # The size is counted here because `:queue.len/1` walks the queue.
    {:ok, %{items: :queue.new(), size: 0, workers: 0, capacity: capacity}}
  end

  @impl GenServer
  def handle_cast({:enqueue, payload, enqueued_at}, state), do: {:noreply, push(state, payload, enqueued_at)}
  def handle_cast({:workers, change}, state), do: {:noreply, %{state | workers: state.workers + change}}

  @impl GenServer
  def handle_call({:enqueue, _, _}, _from, %{size: size, capacity: capacity} = state) when size >= capacity do
    {:reply, {:error, :queue_full}, state}
  end

  def handle_call({:enqueue, payload, enqueued_at}, _from, state) do
    {:reply, :ok, push(state, payload, enqueued_at)}
  end

  def handle_call(:take, _from, %{items: items} = state) do
    case :queue.out(items) do
      {{:value, {payload, enqueued_at}}, rest} ->
        {:reply, {:ok, payload, enqueued_at}, %{state | items: rest, size: state.size - 1}}

      {:empty, _} ->
        {:reply, :empty, state}
    end
  end

  def handle_call(:stats, _from, state) do
    {:reply, %{queue_size: state.size, in_flight: state.workers}, state}
  end

  defp push(%{items: items, size: size} = state, payload, enqueued_at) do
    %{state | items: :queue.in({payload, enqueued_at}, items), size: size + 1}
  end
end
