defmodule PaymentQueue.Enqueuing do
  @moduledoc false
  # Everything about enqueueing that is not the one NIF call of the hot path: delays, keys, large payloads, many at once.

  alias PaymentQueue.{Native, Nats, Options, Payload}
  alias PaymentQueue.Telemetry.Events

  # An error that names a mistake of the caller instead of a state of the queue.
  @typep misuse :: {:error, :no_keys | :no_priority}

  @max_key 1_024

  @doc "What `PaymentQueue.enqueue/2` answers where the one native call has not accepted the payload."
  @spec finish(:large | Native.refusal(), atom(), term()) :: :ok | Native.refusal()
  def finish(:large, queue, payload), do: queue |> Payload.enqueue_large(payload, Native.plainly()) |> told(queue)

  def finish({:error, :queue_unavailable}, queue, payload),
    do: queue |> Nats.enqueue(payload, 0, Options.enqueue_timeout()) |> told(queue)

  def finish(refusal, queue, _payload), do: told(refusal, queue)

  @doc "`PaymentQueue.enqueue/2` with any options."
  @spec one(term(), keyword()) :: :ok | Native.refusal()
  def one(payload, opts) do
    call = Options.call!(:enqueue, opts)
    put(payload, how(call, call.key), call)
  end

  @doc "`PaymentQueue.enqueue_many/2` with any options."
  @spec many([term()], keyword()) :: {:ok, non_neg_integer()} | {:error, atom(), non_neg_integer()}
  def many(payloads, opts) do
    call = Options.call!(:enqueue_many, opts)

    if how(call, call.key) == Native.plainly(),
      do: slices(call.queue, payloads, 0, call.timeout),
      else: each(payloads, call, 0)
  end

  @doc "Slice by slice: a list of any length, and no long NIF call."
  @spec slices(atom(), [term()], non_neg_integer(), pos_integer()) ::
          {:ok, non_neg_integer()} | {:error, atom(), non_neg_integer()}
  def slices(queue, payloads, done, timeout \\ Options.enqueue_timeout()) do
    case Native.enqueue_many(queue, payloads) do
      {:ok, n} -> {:ok, done + n}
      {:more, n, rest} -> slices(queue, rest, done + n, timeout)
      {:large, n, [payload | rest]} -> one_large(queue, payload, rest, done + n)
      {:error, :queue_unavailable, 0} -> queue |> Nats.enqueue_many(payloads, 0, timeout) |> many_told(queue)
      {:error, reason, n} -> Events.refused({:error, reason, done + n}, queue)
    end
  end

  defp one_large(queue, payload, rest, done) do
    case finish(:large, queue, payload) do
      :ok -> slices(queue, rest, done + 1)
      {:error, reason} -> {:error, reason, done}
    end
  end

  defp each([], _call, done), do: {:ok, done}

  defp each([payload | rest], call, done) do
    case put(payload, how(call, of(call.key, payload)), call) do
      :ok -> each(rest, call, done + 1)
      {:error, reason} -> {:error, reason, done}
    end
  end

  defp of(nil, _payload), do: nil
  defp of(fun, payload), do: fun.(payload)

  defp put(payload, how, call) do
    case Native.enqueue_with(call.queue, payload, how) do
      {:error, :queue_unavailable} -> far(payload, call) |> answer(call)
      :large -> call.queue |> Payload.enqueue_large(payload, how) |> answer(call)
      answer -> answer(answer, call)
    end
  end

  # The server knows neither: refused rather than ignored.
  defp far(payload, call) do
    if Nats.queue?(call.queue) and (call.key != nil or call.priority != 0),
      do:
        raise(
          ArgumentError,
          "options :key and :priority are not supported by the engine :nats of #{inspect(call.queue)}"
        )

    Nats.enqueue(call.queue, payload, call.delay, call.timeout)
  end

  defp how(call, key), do: {call.delay, bytes(key, :key), call.priority}

  # Equal terms, and only those, have equal bytes.
  defp bytes(nil, _option), do: nil

  defp bytes(term, option) do
    bytes = :erlang.term_to_binary(term, [:deterministic])

    if byte_size(bytes) > @max_key,
      do:
        raise(
          ArgumentError,
          "the #{inspect(option)} takes #{byte_size(bytes)} bytes in external term format; allowed: #{@max_key}"
        )

    bytes
  end

  @spec answer(:ok | Native.refusal() | misuse(), map()) :: :ok | Native.refusal()
  defp answer({:error, :no_keys}, call) do
    raise ArgumentError,
          "option :key needs a queue that was started with unique_for: ms, which #{inspect(call.queue)} was not"
  end

  defp answer({:error, :no_priority}, call) do
    %{priorities: priorities} = Native.info(call.queue)

    raise ArgumentError,
          "invalid value for :priority: #{call.priority}; allowed: 0..#{priorities - 1}, for #{inspect(call.queue)} was " <>
            "started with priorities: #{priorities}"
  end

  defp answer(answer, call), do: told(answer, call.queue)

  defp many_told({:ok, _} = all, _queue), do: all
  defp many_told(refusal, queue), do: Events.refused(refusal, queue)

  defp told(:ok, _queue), do: :ok
  defp told(refusal, queue), do: Events.refused(refusal, queue)
end
