defmodule PaymentQueue.Operations do
  @moduledoc false
  # What an operator does to a live queue and what takes more than one native call.

  alias PaymentQueue.{Durable, Native, Nats, Options, Payload, Reason, Taking}
  alias PaymentQueue.Telemetry.Events

  @doc "The answer of a native call about a queue in this VM, or an `ArgumentError` if there is no such queue."
  @spec known!(answer | {:error, :queue_unavailable}, atom()) :: answer when answer: term()
  def known!({:error, :queue_unavailable}, queue), do: Taking.unavailable!(queue)
  def known!(answer, _queue), do: answer

  @doc "A function of `Native` about a queue, or the same of its engine; an `ArgumentError` if there is no such queue."
  @spec call(atom(), atom(), [term()]) :: term()
  def call(queue, function, args \\ []) do
    case apply(Native, function, [queue | args]) do
      {:error, :queue_unavailable} -> apply(Nats, function, [queue | args])
      answer -> answer
    end
  end

  @doc "The `info/1` of a queue for one who reports: an error, and no exception, where a server does not answer."
  @spec look(atom()) :: map() | {:error, :queue_unavailable}
  def look(queue) do
    with {:error, :queue_unavailable} <- Native.info(queue), do: Nats.look(queue)
  end

  @spec configure(atom(), keyword()) :: :ok
  def configure(queue, opts) do
    present = call(queue, :settings)
    call(queue, :configure, [Options.reconfigure!(opts, present)])
  end

  @spec pause(atom()) :: :ok
  def pause(queue) do
    call(queue, :pause)
    Events.emit([:queue, :paused], %{count: 1}, %{queue: queue})
  end

  @spec resume(atom()) :: :ok
  def resume(queue) do
    # Reopened first: whoever is woken by the resume may enqueue follow-up work.
    call(queue, :reopen)
    call(queue, :resume)
    Events.emit([:queue, :resumed], %{count: 1}, %{queue: queue})
  end

  @spec scale(atom(), term()) :: :ok | {:error, :no_workers}
  def scale(queue, workers) do
    Options.count!(workers, :workers, 0, Options.max_workers())
    _ = call(queue, :settings)

    case PaymentQueue.Supervisor.pool(queue) do
      nil -> {:error, :no_workers}
      pool -> scale(pool, queue, workers)
    end
  end

  defp scale(pool, queue, workers) do
    :ok = PaymentQueue.Workers.Pool.scale(pool, workers)
    Events.emit([:queue, :scaled], %{workers: workers}, %{queue: queue})
  end

  @spec drain(atom(), keyword()) :: :ok | {:error, :timeout}
  def drain(queue, opts) do
    %{timeout: timeout} = Options.call!(:drain, opts)
    started = System.monotonic_time()
    call(queue, :close)
    deadline = Taking.deadline(timeout || PaymentQueue.Supervisor.shutdown(queue))
    result = with :ok <- idle(queue, deadline), do: settled(queue, deadline)
    drained(queue, result, System.monotonic_time() - started)
    result
  end

  # With its last settles on disk: else a restart would redeliver them. If the disk fails, nothing better can be done here.
  defp settled(queue, deadline) do
    _ = written(queue, Taking.remaining(deadline))
    :ok
  end

  @spec flush(atom(), keyword()) :: :ok | {:error, {:storage, atom()}}
  def flush(queue, opts) do
    %{timeout: timeout} = Options.call!(:flush, opts)
    written(queue, timeout)
  end

  # What was answered is with the servers already.
  defp written(queue, timeout), do: if(Nats.queue?(queue), do: :ok, else: Durable.flush(queue, timeout))

  defp drained(queue, result, duration) do
    result = with {:error, reason} <- result, do: reason
    Events.emit([:queue, :drained], %{duration: duration, left: left(look(queue))}, %{queue: queue, result: result})
  end

  defp left(%{queue_size: waiting, in_flight: held, scheduled: later}), do: waiting + held + later
  # The servers did not answer: nobody here knows.
  defp left({:error, _}), do: nil

  defp idle(queue, deadline) do
    case Native.await_idle(queue) do
      :idle -> :ok
      {:waiting, token} -> await_idle(queue, token, deadline)
      {:error, :queue_unavailable} -> Nats.drained(queue, Taking.remaining(deadline))
    end
  end

  defp await_idle(queue, token, deadline) do
    receive do
      {:payment_queue, :idle, ^token} -> :ok
    after
      Taking.remaining(deadline) ->
        case Native.cancel_await(queue, token) do
          :ok -> {:error, :timeout}
          # Idle at the last moment: the message is certain to come, and must not stay in the caller's mailbox.
          :delivered -> await_idle(queue, token, :infinity)
        end
    end
  end

  @spec purge(atom()) :: {:ok, non_neg_integer()}
  def purge(queue) do
    purged = purged(Native.info(queue), queue)
    Events.emit([:queue, :purged], %{count: purged}, %{queue: queue})
    {:ok, purged}
  end

  # Bounded by what is there now: with producers at work, "until empty" might never end.
  defp purged(%{queue_size: waiting, scheduled: later}, queue), do: slices(&Native.purge(queue, &1), waiting + later, 0)
  defp purged({:error, :queue_unavailable}, queue), do: Nats.purge(queue)

  @spec requeue_dead(atom(), term()) :: {:ok, non_neg_integer()}
  def requeue_dead(queue, n) do
    unless n == :all, do: Options.count!(n, :n, 0, Options.max_items())
    info = call(queue, :info)
    # `:all` sorts after every integer.
    requeued = slices(&call(queue, :requeue_dead, [&1]), min(n, info.dead), 0)
    Events.emit([:queue, :requeued], %{count: requeued}, %{queue: queue})
    {:ok, requeued}
  end

  defp slices(_move, 0, done), do: done

  defp slices(move, left, done) do
    case move.(left) do
      0 -> done
      n -> slices(move, left - n, done + n)
    end
  end

  @spec peek(atom(), term()) :: [term()]
  def peek(queue, n) do
    Options.count!(n, :n, 0, Options.max_items())
    for {format, payload} <- call(queue, :peek, [n]), do: Payload.decode(format, payload)
  end

  @spec dead_letters(atom(), term()) :: [PaymentQueue.dead_letter()]
  def dead_letters(queue, n) do
    Options.count!(n, :n, 0, Options.max_items())

    for {{format, payload}, reason, attempts, died_at} <- call(queue, :dead_letters, [n]) do
      %{
        payload: Payload.decode(format, payload),
        reason: Reason.decode(reason),
        attempts: attempts,
        died_at: DateTime.from_unix!(died_at, :millisecond)
      }
    end
  end
end
