defmodule PaymentQueue.Enqueuing do
  @moduledoc false
  # Everything about enqueueing that is not the one NIF call of the hot path: delays, keys, partitions, large payloads, many at once.

  alias PaymentQueue.{Durable, Native, Nats, Options, Payload}
  alias PaymentQueue.Telemetry.Events

  # An error that names a mistake of the caller instead of a state of the queue.
  @typep misuse :: {:error, :no_keys | :no_priority}

  @max_key 1_024

  @doc "What `PaymentQueue.enqueue/2` answers where the one native call has not accepted the payload."
  @spec finish(:large | Native.storing() | Native.refusal(), atom(), term(), timeout()) :: :ok | Native.refusal()
  def finish(answer, queue, payload, timeout \\ Durable.timeout())

  def finish(:large, queue, payload, timeout),
    do: queue |> Payload.enqueue_large(payload, Native.plainly()) |> Durable.await(timeout) |> told(queue)

  # Not in this VM: maybe in NATS.
  def finish({:error, :queue_unavailable}, queue, payload, timeout),
    do: queue |> Nats.enqueue(payload, 0, timeout) |> told(queue)

  def finish(answer, queue, _payload, timeout), do: answer |> Durable.await(timeout) |> told(queue)

  @doc "`PaymentQueue.enqueue/2` with any options."
  @spec one(term(), keyword()) :: :ok | Native.refusal()
  def one(payload, opts) do
    call = Options.call!(:enqueue, opts)
    with nil <- put(payload, how(call, call.key, call.partition), call), do: far(payload, call)
  end

  @doc "`PaymentQueue.enqueue_many/2` with any options."
  @spec many([term()], keyword()) :: {:ok, non_neg_integer()} | {:error, atom() | {:storage, atom()}, non_neg_integer()}
  def many(payloads, opts) do
    call = Options.call!(:enqueue_many, opts)

    if plain?(call),
      do: slices(call.queue, payloads, 0, call.timeout),
      else: each(payloads, hows!(payloads, call), call, 0)
  end

  defp plain?(call), do: match?(%{delay: 0, key: nil, partition: nil, priority: 0}, call)

  @doc "Slice by slice: a list of any length, and no long NIF call."
  @spec slices(atom(), [term()], non_neg_integer(), timeout()) ::
          {:ok, non_neg_integer()} | {:error, atom() | {:storage, atom()}, non_neg_integer()}
  def slices(queue, payloads, done, timeout \\ Durable.timeout()) do
    case queue |> Native.enqueue_many(payloads) |> Durable.await(timeout) do
      {:ok, n} -> {:ok, done + n}
      {:more, n, rest} -> slices(queue, rest, done + n, timeout)
      {:large, n, [payload | rest]} -> one_large(queue, payload, rest, done + n, timeout)
      {:error, :queue_unavailable, 0} -> queue |> Nats.enqueue_many(payloads, 0, timeout) |> many_told(queue)
      {:error, reason, n} -> Events.refused({:error, reason, done + n}, queue)
    end
  end

  defp one_large(queue, payload, rest, done, timeout) do
    case finish(:large, queue, payload, timeout) do
      :ok -> slices(queue, rest, done + 1, timeout)
      {:error, reason} -> {:error, reason, done}
    end
  end

  # All before the first item is in: whoever is answered by an exception must not be left with a part that was accepted.
  defp hows!(payloads, call) do
    hows = for payload <- payloads, do: how(call, of(call.key, payload), of(call.partition, payload))
    if Enum.any?(hows, &match?({_, <<_::binary>>, _, _}, &1)), do: keeps_keys!(call)
    hows
  end

  defp keeps_keys!(call) do
    settings = Native.settings(call.queue)

    # What is not in this VM is maybe in NATS.
    if match?({:error, _}, settings) or Options.setting(settings, :unique_for) != nil,
      do: :ok,
      else: answer({:error, :no_keys}, call)
  end

  defp each([], [], _call, done), do: {:ok, done}

  defp each([payload | rest], [how | hows], call, done) do
    case put(payload, how, call) do
      :ok -> each(rest, hows, call, done + 1)
      {:error, reason} -> {:error, reason, done}
      # The first finds out for all.
      nil -> many_far([payload | rest], call)
    end
  end

  defp of(nil, _payload), do: nil
  defp of(fun, payload), do: fun.(payload)

  # Nil: there is no such queue in this VM.
  defp put(payload, how, call) do
    try_to_put = fn ->
      with :large <- Native.enqueue_with(call.queue, payload, how), do: Payload.enqueue_large(call.queue, payload, how)
    end

    case Durable.await_decided(try_to_put, call.timeout) do
      {:error, :queue_unavailable} -> nil
      answer -> answer(answer, call)
    end
  end

  # Maybe in NATS.
  defp far(payload, call) do
    if Nats.queue?(call.queue), do: Options.in_nats!(call, :enqueue)
    call.queue |> Nats.enqueue(payload, call.delay, call.timeout) |> told(call.queue)
  end

  defp many_far(payloads, call) do
    if Nats.queue?(call.queue), do: Options.in_nats!(call, :enqueue_many)
    call.queue |> Nats.enqueue_many(payloads, call.delay, call.timeout) |> many_told(call.queue)
  end

  defp how(call, key, partition), do: {call.delay, bytes(key, :key), bytes(partition, :partition), call.priority}

  # Equal terms, and only those, have equal bytes.
  defp bytes(nil, _option), do: nil

  defp bytes(term, option) do
    bytes = :erlang.term_to_binary(term, [:deterministic])

    if byte_size(bytes) > @max_key do
      allowed = "a term of up to #{@max_key} bytes in external term format, and not #{byte_size(bytes)}"
      Options.invalid!(option, term, allowed)
    end

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
