defmodule PaymentQueue.Baseline.Worker do
  @moduledoc """
  The workers of the replaced design: a process that keeps a number of loops running, each of which takes an item, handles
  it, and looks again after a millisecond when there was none.

      children = [
        {PaymentQueue.Baseline.EtsQueue, capacity: 10_000},
        {PaymentQueue.Baseline.Worker, queue: PaymentQueue.Baseline.EtsQueue, handler: &MyApp.Pay.send/1, concurrency: 4}
      ]

  As it was: what a handler answers with `{:error, reason}` goes back to the **tail** at once and without a limit, or is lost
  if there is no room; an item whose handler raises is logged and lost; an item whose loop is killed is lost without a word.
  """

  use GenServer

  require Logger

  alias PaymentQueue.Baseline.Queue

  @idle_ms 1

  @type option ::
          {:queue, module()}
          | {:queue_name, Queue.name()}
          | {:handler, (Queue.payload() -> term())}
          | {:concurrency, pos_integer()}
          | {:name, GenServer.name()}

  @doc """
  Options: `queue:` (a module with the behaviour `PaymentQueue.Baseline.Queue`), `queue_name:` (default: the module),
  `handler:` (a function of the payload), `concurrency:` (default 2 × schedulers), `name:`.
  """
  @spec start_link([option()]) :: GenServer.on_start()
  def start_link(opts), do: GenServer.start_link(__MODULE__, opts, Keyword.take(opts, [:name]))

  @doc "The pids of the running loops."
  @spec loops(GenServer.server()) :: [pid()]
  def loops(pool), do: GenServer.call(pool, :loops)

  @impl GenServer
  def init(opts) do
    # A loop's death is this process's news, not its end.
    Process.flag(:trap_exit, true)
    queue = Keyword.fetch!(opts, :queue)
    source = {queue, Keyword.get(opts, :queue_name, queue)}
    handler = Keyword.fetch!(opts, :handler)
    concurrency = Keyword.get(opts, :concurrency, 2 * System.schedulers_online())

    {:ok,
     %{source: source, handler: handler, loops: MapSet.new(1..concurrency, fn _ -> start_loop(source, handler) end)}}
  end

  @impl GenServer
  def handle_call(:loops, _from, state), do: {:reply, MapSet.to_list(state.loops), state}

  @impl GenServer
  def handle_info({:EXIT, pid, reason}, %{source: {queue, name}} = state) do
    if MapSet.member?(state.loops, pid) do
      Logger.error("payment worker crashed: #{inspect(reason)}")
      queue.worker_finished(name)
      loops = state.loops |> MapSet.delete(pid) |> MapSet.put(start_loop(state.source, state.handler))
      {:noreply, %{state | loops: loops}}
    else
      {:stop, reason, state}
    end
  end

  @impl GenServer
  def terminate(_reason, %{source: {queue, name}} = state) do
    for loop <- state.loops do
      Process.exit(loop, :shutdown)
      queue.worker_finished(name)
    end
  end

  defp start_loop({queue, name}, handler) do
    queue.worker_started(name)
    spawn_link(fn -> loop(queue, name, handler) end)
  end

  defp loop(queue, name, handler) do
    case queue.take(name) do
      {:ok, payload, _wait_ms} -> handle(payload, queue, name, handler)
      :empty -> Process.sleep(@idle_ms)
    end

    loop(queue, name, handler)
  end

  defp handle(payload, queue, name, handler) do
    with {:error, reason} <- run(handler, payload) do
      Logger.warning("payment goes back to the tail: #{inspect(reason)}")
      if queue.enqueue(payload, name) != :ok, do: Logger.error("payment lost: no room to put it back")
    end
  end

  defp run(handler, payload) do
    handler.(payload)
  catch
    kind, reason -> Logger.error("payment lost: #{Exception.format(kind, reason, __STACKTRACE__)}")
  end
end
