defmodule PaymentQueue.Baseline.EtsQueue do
  @moduledoc """
  The second replaced queue: a public ETS `ordered_set` that producers and workers use without a process in between.

  Keys are `{monotonic time, reference}`. A producer reads an `:atomics` counter, refuses if it has reached the capacity,
  and otherwise inserts and counts. Workers compete: `:ets.first/1`, then `:ets.take/2`, and again if another was faster.
  The process behind it only owns the table.

  It is a little cheaper here than it was, so that no comparison is won on its clumsiness: one `:persistent_term` holds all
  that a call needs, and the wait time is read from the key instead of being stored a second time.

  Where it breaks the laws of `PaymentQueue` (`test/baseline/ets_queue_test.exs` shows each):

    * **exact bound**: check, then insert. Every producer that looked before the others counted gets in.
    * **custody**: an item is gone as soon as it is taken, so a killed worker loses it.
    * **survival**: the table dies with its owner, and everything queued with it.
    * **no polling**: an idle worker looks again every millisecond (`PaymentQueue.Baseline.Worker`).
    * **order** is that of two clocks: producers are ordered by when they read the time, not by when they inserted.
  """

  use GenServer

  @behaviour PaymentQueue.Baseline.Queue

  alias PaymentQueue.Baseline.Queue

  @doc "Options: `name:` (default: this module) and `capacity:` (default `:infinity`, as it was)."
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
    if room?(queue), do: insert(payload, queue), else: {:error, :queue_full}
  end

  @doc "The first half of `enqueue/2`. The halves are public so that a test can put another producer between them."
  @spec room?(Queue.name()) :: boolean()
  def room?(queue) do
    # `:infinity` is an atom, and any number sorts before it.
    %{size: size, capacity: capacity} = handle(queue)
    :atomics.get(size, 1) < capacity
  end

  @doc "The second half of `enqueue/2`."
  @spec insert(Queue.payload(), Queue.name()) :: :ok
  def insert(payload, queue) do
    %{table: table, size: size} = handle(queue)
    :ets.insert(table, {{System.monotonic_time(), make_ref()}, payload})
    :atomics.add(size, 1, 1)
  end

  @impl Queue
  @spec take(Queue.name()) :: {:ok, Queue.payload(), Queue.wait_ms()} | :empty
  def take(queue \\ __MODULE__), do: take_first(handle(queue))

  defp take_first(%{table: table, size: size} = handle) do
    with {enqueued_at, _ref} = key <- :ets.first(table),
         [{_key, payload}] <- :ets.take(table, key) do
      :atomics.sub(size, 1, 1)
      {:ok, payload, System.convert_time_unit(System.monotonic_time() - enqueued_at, :native, :millisecond)}
    else
      :"$end_of_table" -> :empty
      [] -> take_first(handle)
    end
  end

  @impl Queue
  @spec stats(Queue.name()) :: Queue.stats()
  def stats(queue \\ __MODULE__) do
    %{size: size, workers: workers} = handle(queue)
    # An item can be taken before its producer counted it, so the counter may be below zero for a moment.
    %{queue_size: max(:atomics.get(size, 1), 0), in_flight: :atomics.get(workers, 1)}
  end

  @impl Queue
  @spec worker_started(Queue.name()) :: :ok
  def worker_started(queue \\ __MODULE__), do: :atomics.add(handle(queue).workers, 1, 1)

  @impl Queue
  @spec worker_finished(Queue.name()) :: :ok
  def worker_finished(queue \\ __MODULE__), do: :atomics.sub(handle(queue).workers, 1, 1)

  @doc "Bytes of memory of the table; binaries above 64 bytes are outside it."
  @spec table_bytes(Queue.name()) :: non_neg_integer()
  def table_bytes(queue \\ __MODULE__) do
    :ets.info(handle(queue).table, :memory) * :erlang.system_info(:wordsize)
  end

  @impl GenServer
  def init({name, capacity}) do
    # Without it a supervisor's shutdown would skip `terminate/2`.
    Process.flag(:trap_exit, true)
    table = :ets.new(__MODULE__, [:ordered_set, :public, read_concurrency: true, write_concurrency: true])

    :persistent_term.put({__MODULE__, name}, %{
      table: table,
      size: :atomics.new(1, []),
      workers: :atomics.new(1, []),
      capacity: capacity
    })

    {:ok, name}
  end

  @impl GenServer
  def terminate(_reason, name) do
    :persistent_term.erase({__MODULE__, name})
    :ok
  end

  defp handle(queue), do: :persistent_term.get({__MODULE__, queue})
end
