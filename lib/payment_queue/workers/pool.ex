defmodule PaymentQueue.Workers.Pool do
  @moduledoc false
  # Keeps as many workers running as the queue's concurrency says, whatever their handlers do to them: a dead worker is
  # replaced at once; one that dies again soon after its start, while the queue settles nothing, is replaced with a
  # growing delay. No restart intensity is involved, so a crash-looping handler takes nothing down with it. Items need no help from here: a dead worker's
  # item is back in the queue by the monitor in the NIF.
  #
  # Also the watchdog of `handler_timeout:`. Nothing on the workers' hot path calls this process.

  use GenServer

  require Logger

  alias PaymentQueue.{Backoff, Lease, Native, Nats, Reason, Taking}
  alias PaymentQueue.Telemetry.{Events, Span}
  alias PaymentQueue.Workers.{Inbox, Outcome, Worker}

  # A worker that lived this long is not crash-looping.
  @settled_ms 5_000
  @first_delay_ms 50
  @max_delay_ms 5_000

  @spec child_spec(map()) :: Supervisor.child_spec()
  def child_spec(config) do
    %{
      id: __MODULE__,
      start: {__MODULE__, :start_link, [config]},
      shutdown: PaymentQueue.Supervisor.grace(config.shutdown)
    }
  end

  @spec start_link(map()) :: GenServer.on_start()
  def start_link(config), do: GenServer.start_link(__MODULE__, config)

  @doc "Starts workers, or lets some stop after their item, until there are `n`."
  @spec scale(pid(), non_neg_integer()) :: :ok
  def scale(pool, n), do: GenServer.call(pool, {:scale, n})

  @type workers :: %{target: non_neg_integer(), running: non_neg_integer()}

  @doc "How many workers there should be and how many there are; nil if the pool does not answer soon."
  @spec workers(pid()) :: workers() | nil
  def workers(pool) do
    GenServer.call(pool, :workers, 500)
  catch
    # It waits for its workers to finish, or is gone.
    :exit, _ -> nil
  end

  @impl true
  def init(config) do
    Process.flag(:trap_exit, true)
    {:ok, sup} = DynamicSupervisor.start_link(strategy: :one_for_one)
    # workers: pid => {state, started at, quick deaths of the slot before}; pending: timer => quick deaths.
    state = %{config: config, sup: sup, workers: %{}, pending: %{}, target: config.concurrency, settled: 0}
    {:ok, reach_target(state)}
  end

  @impl true
  def handle_call({:scale, n}, _from, state), do: {:reply, :ok, reach_target(%{state | target: n})}

  def handle_call(:workers, _from, state),
    do: {:reply, %{target: state.target, running: map_size(state.workers)}, state}

  @impl true
  def handle_info({:DOWN, _, :process, pid, reason}, state),
    do: {:noreply, state |> down(pid, reason) |> reach_target()}

  def handle_info({:handler_timeout, pid, leases, span}, state), do: {:noreply, expire(state, pid, leases, span)}

  def handle_info({:timeout, timer, :replace}, state) do
    case Map.pop(state.pending, timer) do
      {nil, _} -> {:noreply, state}
      {deaths, pending} -> {:noreply, start_worker(%{state | pending: pending}, deaths)}
    end
  end

  # Without its supervisor this process is of no use; the tree starts both again.
  def handle_info({:EXIT, sup, reason}, %{sup: sup} = state), do: {:stop, {:workers_supervisor, reason}, state}
  def handle_info(_message, state), do: {:noreply, state}

  # --- the number of workers ---------------------------------------------------------------------------------------

  defp reach_target(state) do
    case state.target - running(state) - map_size(state.pending) do
      0 -> state
      n when n > 0 -> Enum.reduce(1..n, state, fn _, state -> start_worker(state, 0) end)
      n -> state |> drop_pending(-n) |> stop_surplus()
    end
  end

  defp running(state), do: Enum.count(state.workers, fn {_, {status, _, _}} -> status != :stopping end)

  defp start_worker(state, deaths) do
    case DynamicSupervisor.start_child(state.sup, Worker.child_spec(state.config, self())) do
      {:ok, pid} ->
        Process.monitor(pid)
        Inbox.go(pid)
        put_in(state.workers[pid], {:running, now(), deaths})

      {:error, reason} ->
        Logger.error("PaymentQueue #{inspect(state.config.name)}: a worker did not start: #{Reason.describe(reason)}")
        replace_later(state, deaths + 2)
    end
  end

  defp drop_pending(state, n) do
    Enum.reduce(Enum.take(state.pending, n), state, fn {timer, _}, state ->
      :erlang.cancel_timer(timer)
      %{state | pending: Map.delete(state.pending, timer)}
    end)
  end

  # The youngest first: the older ones have proved themselves.
  defp stop_surplus(state) do
    surplus = running(state) + map_size(state.pending) - state.target

    state.workers
    |> Enum.filter(fn {_, {status, _, _}} -> status == :running end)
    |> Enum.sort_by(fn {_, {_, since, _}} -> since end, :desc)
    |> Enum.take(max(surplus, 0))
    |> Enum.reduce(state, fn {pid, worker}, state ->
      Inbox.stop(pid)
      put_in(state.workers[pid], put_elem(worker, 0, :stopping))
    end)
  end

  # --- the death of a worker ----------------------------------------------------------------------------------------

  defp down(state, pid, reason) do
    case Map.pop(state.workers, pid) do
      {nil, _} -> state
      {{:stopping, _, _}, workers} when reason == :shutdown -> %{state | workers: workers}
      # Killed by the watchdog, which has said so. Its handler was slow, so there is no fast loop to slow down.
      {{:expired, _, _}, workers} -> %{state | workers: workers}
      {{_, since, deaths}, workers} -> died(%{state | workers: workers}, pid, reason, since, deaths)
    end
  end

  # It saw that its lease had been expired before the watchdog's kill reached it.
  defp died(state, _pid, {:shutdown, _}, _since, _deaths), do: state

  defp died(state, pid, reason, since, deaths) do
    text = Reason.describe(reason)

    Logger.error(
      "PaymentQueue #{inspect(state.config.name)}: worker #{inspect(pid)} died: #{text}; " <>
        "what it held is back in the queue, or a dead letter if that was its last attempt",
      queue: state.config.name,
      reason: text
    )

    Events.emit([:worker, :down], %{count: 1}, %{
      queue: state.config.name,
      worker: pid,
      reason: Reason.redact(reason, [])
    })

    {progress?, state} = progress(state)
    deaths = if progress? or now() - since >= @settled_ms, do: 0, else: deaths + 1

    cond do
      running(state) + map_size(state.pending) >= state.target -> state
      deaths < 2 -> start_worker(state, deaths)
      true -> replace_later(state, deaths)
    end
  end

  # Whether anything was settled since the last death. Then the handlers work, and workers that die are being killed.
  defp progress(state) do
    settled = settled(state.config.name)
    {settled > state.settled, %{state | settled: settled}}
  end

  defp settled(queue) do
    case Native.info(queue) do
      %{settled: settled} -> settled
      {:error, :queue_unavailable} -> Nats.settled(queue)
    end
  end

  defp replace_later(state, deaths) do
    delay = min(@max_delay_ms, Bitwise.bsl(@first_delay_ms, min(deaths - 2, 16)))
    timer = :erlang.start_timer(delay, self(), :replace)
    put_in(state.pending[timer], deaths)
  end

  # --- the watchdog -------------------------------------------------------------------------------------------------

  # The lease is made stale first and the worker killed after: whatever the handler does until the kill reaches it can
  # no longer settle the item, and the item is not given out again before the worker is dead.
  defp expire(state, pid, leases, span) do
    %{name: queue, backoff: backoff, handler_timeout: timeout} = state.config

    expired =
      for lease <- leases,
          delay = Backoff.delay(backoff, Lease.attempt(lease)),
          Lease.engine(lease).expire(lease, delay, Reason.encode(:timeout)) == :ok,
          do: {lease, delay}

    if expired == [] do
      state
    else
      Process.exit(pid, :kill)
      ends = for {lease, delay} <- expired, do: {{:retry, :timeout}, Outcome.log_timeout(queue, lease, delay, timeout)}
      if span, do: Span.finish(span, ends)
      update_in(state.workers, &expired(&1, pid))
    end
  end

  defp expired(workers, pid) do
    case workers do
      %{^pid => {:running, since, deaths}} -> %{workers | pid => {:expired, since, deaths}}
      _ -> workers
    end
  end

  # --- shutdown -----------------------------------------------------------------------------------------------------

  @impl true
  def terminate(_reason, state) do
    Enum.each(state.workers, fn {pid, _} -> Inbox.stop(pid) end)
    late = await_workers(state, Taking.deadline(state.config.shutdown))

    if late.workers != %{} do
      Logger.warning(
        "PaymentQueue #{inspect(state.config.name)}: #{map_size(late.workers)} handlers were still running " <>
          "#{state.config.shutdown} ms after the shutdown began and are killed; their items go back to the queue",
        queue: state.config.name
      )

      Enum.each(late.workers, fn {pid, _} -> Process.exit(pid, :kill) end)
      await_workers(late, :infinity)
    end

    :ok
  end

  defp await_workers(%{workers: workers} = state, _deadline) when workers == %{}, do: state

  defp await_workers(state, deadline) do
    receive do
      {:DOWN, _, :process, pid, _} -> await_workers(%{state | workers: Map.delete(state.workers, pid)}, deadline)
      {:handler_timeout, pid, leases, span} -> state |> expire(pid, leases, span) |> await_workers(deadline)
    after
      Taking.remaining(deadline) -> state
    end
  end

  defp now, do: System.monotonic_time(:millisecond)
end
