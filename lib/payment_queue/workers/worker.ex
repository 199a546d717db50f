defmodule PaymentQueue.Workers.Worker do
  @moduledoc false
  # One process that takes an item, runs the handler, settles, and takes the next: the holder of an item is the process
  # that works on it, so when the NIF sees the holder dead, nobody can be paying any more.
  #
  # It traps exits, so a shutdown waits for the running handler. While there is work, one native call settles the last
  # item and takes the next; without work it is parked in the NIF and uses no CPU. `Workers.Batcher` is its sibling.

  alias PaymentQueue.{Handler, Lease, Native, Nats, Payload}
  alias PaymentQueue.Telemetry.Span
  alias PaymentQueue.Workers.{Batcher, Inbox, Outcome}

  @enforce_keys [:queue, :handler, :timeout, :backoff, :batch, :trace, :parent, :pool]
  defstruct @enforce_keys

  @type t :: %__MODULE__{
          queue: atom(),
          handler: (term() -> term()),
          timeout: pos_integer() | :infinity,
          backoff: PaymentQueue.Backoff.t(),
          batch: %{size: pos_integer(), wait: non_neg_integer()},
          trace: Span.settings() | nil,
          parent: pid(),
          pool: pid()
        }

  @spec child_spec(map(), pid()) :: Supervisor.child_spec()
  def child_spec(config, pool) do
    %{
      id: __MODULE__,
      start: {__MODULE__, :start_link, [config, pool]},
      restart: :temporary,
      shutdown: config.shutdown
    }
  end

  @spec start_link(map(), pid()) :: {:ok, pid()}
  def start_link(config, pool) do
    state = %__MODULE__{
      queue: config.name,
      handler: config.handler,
      timeout: config.handler_timeout,
      backoff: config.backoff,
      batch: config.batch,
      trace: Span.settings(config),
      parent: self(),
      pool: pool
    }

    {:ok, :proc_lib.spawn_link(__MODULE__, :init, [state])}
  end

  @doc false
  @spec init(t()) :: no_return()
  def init(state) do
    Process.flag(:trap_exit, true)
    Logger.metadata(queue: state.queue)
    Inbox.await_go(state.parent)

    cond do
      state.batch.size > 1 -> Batcher.loop(state)
      Nats.queue?(state.queue) -> Nats.Worker.loop(state)
      true -> loop(state, nil)
    end
  end

  # `last` is the lease of an item that was handled and is settled together with the next take.
  @doc false
  @spec loop(t(), Native.lease() | nil) :: no_return()
  def loop(state, last) do
    if Inbox.stop?(state.parent) do
      if last, do: Native.ack(last)
      exit(:shutdown)
    else
      taken(state, take(state.queue, last))
    end
  end

  defp taken(state, {:ok, payload, lease}), do: handle(state, payload, lease)
  defp taken(state, {:large, lease}), do: fetched(state, Payload.fetch_large(lease), lease)
  defp taken(state, :empty), do: park(state)
  defp taken(_state, {:error, :stale_lease}), do: stale()

  defp take(queue, nil), do: Native.take(queue)
  defp take(queue, last), do: Native.settle_take(queue, last)

  defp park(state) do
    case Native.park(state.queue) do
      {:parked, token} -> parked(state, token)
      taken -> taken(state, taken)
    end
  end

  defp parked(state, token) do
    case Inbox.await(state.queue, state.parent, token, :infinity) do
      {:delivered, lease} -> fetched(state, Payload.fetch(lease), lease)
      :stop -> exit(:shutdown)
    end
  end

  defp fetched(state, {:ok, payload}, lease), do: handle(state, payload, lease)
  # Settled or purged by somebody else between the delivery and here.
  defp fetched(state, {:error, :stale_lease}, _lease), do: __MODULE__.loop(state, nil)

  defp handle(%{timeout: :infinity, trace: nil} = state, payload, lease),
    do: settle(state, Handler.run(state.handler, payload), payload, lease)

  defp handle(%{trace: nil} = state, payload, lease) do
    timer = watch(state, [lease], nil)
    outcome = Handler.run(state.handler, payload)
    unwatch(timer)
    settle(state, outcome, payload, lease)
  end

  # Settled at once and not with the next take, so that the end of the span says what became of the item.
  defp handle(state, payload, lease) do
    span = Span.start(state.trace, [payload], [lease])
    timer = watch(state, [lease], span)
    outcome = Handler.run(state.handler, payload)
    unwatch(timer)
    span = Span.handled(span)
    done = Outcome.settle(outcome, lease, payload, state.queue, state.backoff)
    # A stale lease was expired by the watchdog, which has ended the span.
    if done == :stale, do: stale()
    Span.finish(span, [{outcome, done}])
    __MODULE__.loop(state, nil)
  end

  # Fully qualified: new code is picked up between two items, and old code can be purged.
  defp settle(state, :ok, _payload, lease), do: __MODULE__.loop(state, lease)

  defp settle(state, outcome, payload, lease) do
    case Outcome.settle(outcome, lease, payload, state.queue, state.backoff) do
      :stale -> stale()
      _ -> __MODULE__.loop(state, nil)
    end
  end

  @doc "Sets the watchdog for these leases, which ends the span if it has to."
  @spec watch(t(), [Lease.t()], Span.t() | nil) :: reference() | nil
  def watch(%{timeout: :infinity}, _leases, _span), do: nil

  def watch(state, leases, span),
    do: Process.send_after(state.pool, {:handler_timeout, self(), leases, Span.detach(span)}, state.timeout)

  @doc "The handler is done. If the message is on its way already, the pool finds the lease settled or stale."
  @spec unwatch(reference() | nil) :: :ok
  def unwatch(nil), do: :ok
  def unwatch(timer), do: Process.cancel_timer(timer, async: true, info: false)

  @doc """
  Ends a worker whose lease went stale under it: the watchdog expired it and its kill is on the way. To take another item
  now would cost that item an attempt.
  """
  @spec stale() :: no_return()
  def stale, do: exit({:shutdown, :stale_lease})
end
