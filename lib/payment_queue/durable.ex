defmodule PaymentQueue.Durable do
  @moduledoc false
  # Waiting for the disk. The native side writes on a thread of its own; whoever needs to know what came of it holds a token
  # and gets a message. Nothing waits in a NIF.

  alias PaymentQueue.{Native, Options, Taking}

  require Logger

  @timeout 5_000

  @doc "Milliseconds that an enqueue waits for the disk unless it says otherwise."
  @spec timeout() :: pos_integer()
  def timeout, do: @timeout

  @doc """
  Brings the items of a durable queue back, or finds the queue again. Takes as long as there are items to be read: about a
  second for a million.
  """
  @spec open(map()) :: :created | :found | {:error, term()}
  def open(%{name: name, dir: dir, durability: durability} = config) do
    case Native.open_durable(name, Atom.to_string(name), Options.settings(config), dir, durability) do
      :found -> :found
      {:opening, token} -> opening(name, token)
      {:error, :none} -> {:error, {:durability, "the queue runs in this VM without durability"}}
      {:error, :dir, other} -> {:error, {:dir, "the queue is open in #{other}"}}
    end
  end

  defp opening(name, token) do
    receive do
      {:payment_queue, :recovering, ^token, n} ->
        Logger.info("PaymentQueue #{inspect(name)}: #{n} items recovered so far")
        opening(name, token)

      {:payment_queue, :opened, ^token, :ok} ->
        recovered(name)
        :created

      {:payment_queue, :opened, ^token, {:error, {:storage, reason}, detail}} ->
        {:error, {:storage, reason, detail}}
    end
  end

  defp recovered(name) do
    case Native.info(name) do
      %{enqueued: 0} ->
        :ok

      info ->
        Logger.info(
          "PaymentQueue #{inspect(name)}: recovered #{info.queue_size} waiting, #{info.scheduled} scheduled and " <>
            "#{info.dead} dead items"
        )
    end
  end

  @doc """
  The answer of a native call: itself, unless it says that the disk has the next word. Then that is awaited. A caller that
  gives up gets no message later.
  """
  @spec await(answer | Native.storing() | {:storing, pos_integer(), non_neg_integer(), answer}, timeout()) ::
          :ok | {:error, {:storage, atom()}} | {:error, {:storage, atom()}, non_neg_integer()} | answer
        when answer: term()
  def await({:storing, token}, timeout), do: stored(token, timeout)

  def await({:storing, token, sure, answer}, timeout) do
    case stored(token, timeout) do
      :ok -> answer
      {:error, reason} -> {:error, reason, sure}
    end
  end

  def await(answer, _timeout), do: answer

  @doc """
  The answer of a native call, as `await/2`. While an item with the same key is on its way to the disk, and may not get there,
  nobody knows whether this one is a duplicate: then the call is tried again when that one is decided, `timeout` in all.
  """
  @spec await_decided((() -> answer | Native.storing() | Native.undecided()), timeout()) ::
          :ok | {:error, {:storage, atom()}} | answer
        when answer: term()
  def await_decided(call, timeout), do: await_decided(call, timeout, deadline(timeout))

  defp await_decided(call, left, deadline) do
    case call.() do
      {:undecided, token} -> with :ok <- stored(token, left), do: await_decided(call, left(deadline), deadline)
      answer -> await(answer, left)
    end
  end

  defp deadline(:infinity), do: :infinity
  defp deadline(timeout), do: System.monotonic_time(:millisecond) + timeout

  defp left(:infinity), do: :infinity
  defp left(deadline), do: max(deadline - System.monotonic_time(:millisecond), 0)

  defp stored(token, timeout) do
    receive do
      {:payment_queue, :stored, ^token, :ok} -> :ok
      {:payment_queue, :stored, ^token, {:error, reason, _detail}} -> {:error, reason}
    after
      timeout ->
        case Native.cancel_wait(token) do
          :ok -> {:error, {:storage, :timeout}}
          # Too late to leave: the message is certain to come, and must not stay in the caller's mailbox.
          :delivered -> stored(token, :infinity)
        end
    end
  end

  @doc "Waits until all that happened to the queue's items before is written."
  @spec flush(atom(), timeout()) :: :ok | {:error, {:storage, atom()}}
  def flush(queue, timeout) do
    case queue |> Native.flush() |> await(timeout) do
      {:error, :queue_unavailable} -> Taking.unavailable!(queue)
      answer -> answer
    end
  end

  @doc "An `info` with what is known of the queue's disk."
  @spec describe(map(), atom()) :: map()
  def describe(info, queue) do
    case Native.storage(queue) do
      %{durability: durability} = storage -> Map.merge(info, %{durability: durability, storage: storage})
      nil -> Map.merge(info, %{durability: :none, storage: nil})
    end
  end
end
