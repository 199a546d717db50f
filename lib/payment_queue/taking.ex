defmodule PaymentQueue.Taking do
  @moduledoc false
  # Everything about taking that is not the one NIF call of the hot path: waiting, large payloads, several at once.

  alias PaymentQueue.{Lease, Native, Nats, Payload}

  @typep deadline :: integer() | :infinity

  @doc "`PaymentQueue.take/1` with validated options."
  @spec take(atom(), Lease.t() | nil, timeout()) ::
          {:ok, term(), Native.lease()} | :empty | {:error, :stale_lease}
  def take(queue, {:nats, _, _, _} = lease, timeout), do: elsewhere(queue, lease, timeout)

  def take(queue, lease, timeout) do
    taken = if lease, do: Native.settle_take(queue, lease), else: Native.take(queue)
    finish(taken, queue, timeout)
  end

  @doc "A settle and a take that are not both of queues in this VM: the two halves, one after the other."
  @spec elsewhere(atom(), Lease.t(), timeout()) :: {:ok, term(), term()} | :empty | {:error, atom()}
  def elsewhere(queue, lease, timeout) do
    # Settles nothing for a queue that nobody started.
    if not Nats.queue?(queue) and match?({:error, _}, Native.settings(queue)), do: unavailable!(queue)
    with :ok <- Lease.engine(lease).ack(lease), do: take(queue, nil, timeout)
  end

  @doc "As `finish/2`, and waits for an item if there is none."
  @spec finish(Native.taken() | {:error, :stale_lease}, atom(), timeout()) ::
          {:ok, term(), Native.lease()} | :empty | {:error, :stale_lease}
  def finish({:error, :queue_unavailable}, queue, timeout), do: Nats.take(queue, nil, timeout)

  def finish(taken, queue, timeout) do
    case finish(taken, queue) do
      :empty when timeout != 0 -> wait(queue, deadline(timeout))
      other -> other
    end
  end

  @doc "Turns the rarer answers of `Native.take/1` and `Native.settle_take/2` into those of `PaymentQueue.take/1`."
  @spec finish(Native.taken() | {:error, :stale_lease}, atom()) ::
          {:ok, term(), Native.lease()} | :empty | {:error, :stale_lease}
  def finish({:large, lease}, queue) do
    case Payload.fetch_large(lease) do
      {:ok, payload} -> {:ok, payload, lease}
      # Somebody settled it in between: it is not ours, the next one may be.
      {:error, :stale_lease} -> finish(Native.take(queue), queue)
    end
  end

  def finish({:error, :queue_unavailable}, queue), do: Nats.take(queue, nil, 0)
  def finish(other, _queue), do: other

  @doc "Parks the caller until an item is handed to it or the deadline passes."
  @spec wait(atom(), deadline()) :: {:ok, term(), Native.lease()} | :empty
  def wait(queue, deadline) do
    case Native.park(queue) do
      {:parked, token} ->
        parked(queue, token, deadline)

      {:error, :queue_unavailable} ->
        Nats.wait(queue, deadline)

      taken ->
        with :empty <- finish(taken, queue), do: wait(queue, deadline)
    end
  end

  defp parked(queue, token, deadline) do
    receive do
      {:payment_queue, :delivered, ^token, lease} -> delivered(queue, lease, deadline)
    after
      remaining(deadline) ->
        case Native.unpark(queue, token) do
          :ok -> :empty
          # Too late to leave: the item is ours already and its message is certain to come.
          :delivered -> parked(queue, token, :infinity)
        end
    end
  end

  defp delivered(queue, lease, deadline) do
    case Payload.fetch(lease) do
      {:ok, payload} -> {:ok, payload, lease}
      {:error, :stale_lease} -> wait(queue, deadline)
    end
  end

  @typedoc "What the message to a parked taker brings: a lease, or from NATS the item itself."
  @type delivery :: Native.lease() | Nats.Native.delivery()

  @doc "Takes an item, or parks the caller: then a message brings a delivery for `received/1`. `:stale`: try again."
  @spec park(atom()) :: {:parked, pos_integer()} | {:ok, term(), Lease.t()} | :stale
  def park(queue) do
    case Native.park(queue) do
      {:large, lease} -> fetched(Payload.fetch_large(lease), lease)
      {:error, :queue_unavailable} -> parked_far(Nats.park(queue))
      other -> other
    end
  end

  defp parked_far({:ok, delivery}), do: received(delivery)
  defp parked_far(parked), do: parked

  @doc "The item of a delivery; `:stale`: somebody settled or purged it in between, or it cannot be read here."
  @spec received(delivery()) :: {:ok, term(), Lease.t()} | :stale
  def received({{:nats, _, _, _} = lease, payload, _waited}), do: fetched(Nats.Payload.open(lease, payload), lease)
  def received(lease), do: fetched(Payload.fetch(lease), lease)

  defp fetched({:ok, payload}, lease), do: {:ok, payload, lease}
  defp fetched(_, _lease), do: :stale

  @doc "Gives back a delivery that nobody has looked at: to the head, its attempts as they were where the queue can do that."
  @spec give_back(delivery()) :: :ok
  def give_back({{:nats, _, _, _} = lease, _payload, _waited}) do
    _ = Nats.release(lease, 0)
    :ok
  end

  def give_back(lease) do
    _ = Native.release(lease, 0)
    :ok
  end

  @doc "Up to `n` items that are there now."
  @spec many(atom(), non_neg_integer()) :: [{term(), Native.lease()}]
  def many(queue, n), do: many(queue, n, [])

  # One slice a call: a short slice does not mean that the queue is empty; an empty one does, or that a call has passed by all the
  # waiting items that it may.
  defp many(_queue, 0, acc), do: Enum.reverse(acc)

  defp many(queue, n, acc) do
    case Native.take_many(queue, n) do
      [] -> Enum.reverse(acc)
      {:error, :queue_unavailable} -> Nats.many(queue, n)
      items -> many(queue, n - length(items), Enum.reduce(items, acc, &keep/2))
    end
  end

  defp keep({:large, lease}, acc) do
    case Payload.fetch_large(lease) do
      {:ok, payload} -> [{payload, lease} | acc]
      {:error, :stale_lease} -> acc
    end
  end

  defp keep(item, acc), do: [item | acc]

  @doc "As `many/2`, and waits for the first."
  @spec many_wait(atom(), non_neg_integer(), timeout()) :: [{term(), Native.lease()}]
  def many_wait(queue, n, timeout) do
    case many(queue, n) do
      [] when n > 0 and timeout != 0 ->
        case wait(queue, deadline(timeout)) do
          {:ok, payload, lease} -> [{payload, lease} | many(queue, n - 1)]
          :empty -> []
        end

      items ->
        items
    end
  end

  @doc "`PaymentQueue.dequeue/1` with validated options."
  @spec dequeue(atom(), timeout()) :: {:ok, term(), non_neg_integer()} | :empty
  def dequeue(queue, timeout) do
    case Native.dequeue(queue) do
      {:ok, _, _} = item -> item
      :empty when timeout == 0 -> :empty
      :empty -> dequeue_wait(queue, deadline(timeout))
      {:large, {format, bytes}, wait} -> {:ok, Payload.decode(format, bytes), wait}
      {:leased, lease, wait} -> dequeue_leased(queue, lease, wait, timeout)
      {:error, :queue_unavailable} -> Nats.dequeue(queue, timeout)
    end
  end

  defp dequeue_leased(queue, lease, wait, timeout) do
    with {:ok, payload} <- Payload.fetch_large(lease), :ok <- Native.ack(lease) do
      {:ok, payload, wait}
    else
      {:error, :stale_lease} -> dequeue(queue, timeout)
    end
  end

  # Settled before it is handed over, as without a timeout: at most once.
  defp dequeue_wait(queue, deadline) do
    with {:ok, payload, lease} <- wait(queue, deadline) do
      case Native.ack(lease) do
        :ok -> {:ok, payload, 0}
        {:error, :stale_lease} -> dequeue_wait(queue, deadline)
      end
    end
  end

  @doc "The moment at which a timeout is over: what is waited in several steps must not start over with each."
  @spec deadline(timeout()) :: deadline()
  def deadline(:infinity), do: :infinity
  def deadline(timeout), do: System.monotonic_time(:millisecond) + timeout

  @doc "Milliseconds until the deadline."
  @spec remaining(deadline()) :: timeout()
  def remaining(:infinity), do: :infinity
  def remaining(deadline), do: max(deadline - System.monotonic_time(:millisecond), 0)

  @doc "Raises for a queue that was never started."
  @spec unavailable!(term()) :: no_return()
  def unavailable!(queue) do
    PaymentQueue.Options.name!(queue)

    known =
      case PaymentQueue.queues() do
        [] -> "No queue has been started."
        names -> "Started queues: #{Enum.map_join(Enum.sort(names), ", ", &inspect/1)}."
      end

    raise ArgumentError,
          "the queue #{inspect(queue)} was never started. Put {PaymentQueue, name: #{inspect(queue)}} among your " <>
            "supervisor's children, or call PaymentQueue.start_link(name: #{inspect(queue)}). #{known}"
  end
end
