defmodule PaymentQueue.Nats do
  @moduledoc false
  # Queues whose items live in NATS JetStream. The functions have the names and answers of `PaymentQueue.Native`, which is asked
  # first: only where it knows no queue of a name does anybody come here. So local queues pay nothing for this.
  #
  # The calling process waits for a message, never a scheduler for a server.

  require Logger

  alias PaymentQueue.Nats.{Native, Options, Payload}
  alias PaymentQueue.{Reason, Taking}

  @type lease :: Native.lease()
  @type unconfirmed :: {:error, :queue_unavailable}
  @type settled :: :ok | {:error, :stale_lease} | unconfirmed()

  # Milliseconds that a question to the server may take: for a caller who needs the answer, and for one who reports.
  @question 5_000
  @look 1_000

  # --- a queue's life ------------------------------------------------------------------------------------------------

  @doc "Connects, makes the streams or brings them up to date, and opens the queue on this node."
  @spec open(map()) :: :created | :found | {:error, term()}
  def open(%{name: name, engine: engine} = config) do
    built!()
    # What identifies the connection, and what the queue: neither holds a secret.
    key = :erlang.md5(:erlang.term_to_binary(Map.take(engine, [:servers, :tls, :credentials])))
    identity = {key, Map.take(engine, [:stream, :replicas, :ack_wait, :duplicate_window])}

    case :persistent_term.get({__MODULE__, name}, nil) do
      nil -> create(config, key, identity)
      {index, ^identity} -> found(index, config)
      _ -> {:error, {:engine, "the queue is open in this VM with other options of its engine"}}
    end
  end

  # Asked of the code server, which holds the module back if the native library is not there.
  defp built! do
    with {:error, _} <- Code.ensure_loaded(Native) do
      raise ArgumentError,
            "the engine :nats was not built. Put `config :payment_queue, engines: [:nats]` into config/config.exs and run " <>
              "mix deps.compile payment_queue --force"
    end
  end

  defp create(%{name: name, engine: engine} = config, key, identity) do
    connection = {engine.servers, engine.tls, Options.secret(engine.credentials), engine.connect_timeout}
    lost = Reason.encode(:consumer_down)
    limits = limits(PaymentQueue.Options.settings(config))
    %{ack_wait: ack_wait, duplicate_window: window, prefetch: prefetch, allow_unsafe_server: unsafe?} = engine
    settings = {engine.stream, engine.replicas, ack_wait, window, prefetch, unsafe?, lost, limits}

    case key |> begin(connection, settings) |> await() do
      {:ok, index, warning} ->
        if warning, do: Logger.error("PaymentQueue queue #{inspect(name)}: #{warning}")
        :persistent_term.put({__MODULE__, name}, {index, identity})
        :created

      {:error, text} ->
        {:error, {:nats, text}}
    end
  end

  # The stack trace of a bad argument shows the arguments, and with them the secret.
  defp begin(key, connection, settings) do
    Native.open(key, connection, settings)
  rescue
    _ in ArgumentError -> raise ArgumentError, "the options of the engine :nats cannot be passed on to native code"
  end

  defp found(index, config) do
    case index |> Native.configure(limits(PaymentQueue.Options.settings(config))) |> await() do
      :ok ->
        Native.prefetch(index, config.engine.prefetch)
        Native.reopen(index)
        :found

      {:error, text} ->
        {:error, {:nats, text}}
    end
  end

  # What the server keeps of the settings. The rest is refused.
  defp limits(settings), do: PaymentQueue.Options.settings_in_nats!(settings)

  @doc "Whether this VM has opened a queue of this name here."
  @spec queue?(term()) :: boolean()
  def queue?(name), do: :persistent_term.get({__MODULE__, name}, nil) != nil

  @doc "The names of the queues that were opened here."
  @spec queues() :: [atom()]
  def queues, do: for({{__MODULE__, name}, _} <- :persistent_term.get(), do: name)

  defp index!(name) do
    case :persistent_term.get({__MODULE__, name}, nil) do
      {index, _} -> index
      nil -> Taking.unavailable!(name)
    end
  end

  # The native side answers each token once, and in time.
  defp await(token) when is_integer(token) do
    receive do
      {:payment_queue, :nats, ^token, answer} -> answer
    end
  end

  defp ok!({:ok, value}), do: value
  defp ok!({:error, text}), do: unanswered!(text)

  @spec unanswered!(String.t()) :: no_return()
  defp unanswered!(text), do: raise("the NATS servers did not answer: #{inspect(text)}")

  # --- in ------------------------------------------------------------------------------------------------------------

  @spec enqueue(atom(), term(), non_neg_integer(), timeout()) :: :ok | {:error, atom()}
  def enqueue(queue, payload, delay, timeout) do
    case :persistent_term.get({__MODULE__, queue}, nil) do
      nil -> {:error, :queue_unavailable}
      {index, _} -> index |> Native.enqueue(Payload.encode(payload), delay, within(timeout)) |> await()
    end
  end

  # Some day it is over: the longest time that any option can name.
  defp within(:infinity), do: PaymentQueue.Options.max_ms()
  defp within(timeout), do: timeout

  @spec enqueue_many(atom(), [term()], non_neg_integer(), timeout()) ::
          {:ok, non_neg_integer()} | {:error, atom(), non_neg_integer()}
  def enqueue_many(queue, payloads, delay, timeout) do
    case :persistent_term.get({__MODULE__, queue}, nil) do
      nil ->
        {:error, :queue_unavailable, 0}

      {index, _} ->
        index |> Native.enqueue_many(Enum.map(payloads, &Payload.encode/1), delay, within(timeout)) |> await()
    end
  end

  # --- out -----------------------------------------------------------------------------------------------------------

  @doc "`PaymentQueue.take/1` with validated options."
  @spec take(atom(), lease() | nil, timeout()) :: {:ok, term(), lease()} | :empty | {:error, atom()}
  def take(queue, last, timeout) do
    with :ok <- if(last, do: ack(last), else: :ok) do
      if timeout == 0, do: queue |> many(1) |> first(), else: wait(queue, Taking.deadline(timeout))
    end
  end

  defp first([{payload, lease}]), do: {:ok, payload, lease}
  defp first([]), do: :empty

  @doc "Up to `n` items that are there now."
  @spec many(atom(), non_neg_integer()) :: [{term(), lease()}]
  def many(queue, 0) do
    _ = index!(queue)
    []
  end

  def many(queue, n),
    do: for(delivery <- queue |> index!() |> Native.poll(n) |> await(), item <- opened(delivery), do: item)

  defp opened({lease, payload, _waited}) do
    case Payload.open(lease, payload) do
      {:ok, term} -> [{term, lease}]
      :undecodable -> []
    end
  end

  @doc "As `Taking.wait/2`."
  @spec wait(atom(), integer() | :infinity) :: {:ok, term(), lease()} | :empty
  def wait(queue, deadline) do
    case park(queue) do
      {:parked, token} -> parked(queue, token, deadline)
      {:ok, delivery} -> delivered(queue, delivery, deadline)
    end
  end

  defp parked(queue, token, deadline) do
    receive do
      {:payment_queue, :delivered, ^token, delivery} -> delivered(queue, delivery, deadline)
    after
      Taking.remaining(deadline) ->
        case unpark(queue, token) do
          :ok -> :empty
          :delivered -> parked(queue, token, :infinity)
        end
    end
  end

  defp delivered(queue, delivery, deadline) do
    case opened(delivery) do
      [{payload, lease}] -> {:ok, payload, lease}
      [] -> wait(queue, deadline)
    end
  end

  @doc "`PaymentQueue.dequeue/1`: the item counts as waited for since its acceptance."
  @spec dequeue(atom(), timeout()) :: {:ok, term(), non_neg_integer()} | :empty
  def dequeue(queue, timeout) do
    with {:ok, payload, lease} <- take(queue, nil, timeout) do
      case ack(lease) do
        :ok -> {:ok, payload, 0}
        {:error, _} -> dequeue(queue, timeout)
      end
    end
  end

  @spec park(atom()) :: {:ok, Native.delivery()} | {:parked, pos_integer()}
  def park(queue), do: queue |> index!() |> Native.park()

  @spec unpark(atom(), pos_integer()) :: :ok | :delivered
  def unpark(queue, token), do: queue |> index!() |> Native.unpark(token)

  @doc "Milliseconds from an item's acceptance to this delivery, by the clocks of server and node; 0 for a stale lease."
  @spec waited(lease()) :: non_neg_integer()
  def waited({:nats, index, lease, _}), do: Native.waited(index, lease)

  # --- the end of a lease --------------------------------------------------------------------------------------------

  @spec ack(lease()) :: settled()
  def ack({:nats, index, lease, _}), do: index |> Native.ack(lease) |> confirmed()

  @doc "Settles many at once; returns those that were not settled, or not for sure."
  @spec ack_many([lease()]) :: [lease()]
  def ack_many(leases) do
    # All are on their way before the first answer is awaited.
    started = for {:nats, index, id, _} = lease <- leases, do: {lease, Native.ack(index, id)}
    for {lease, answer} <- started, confirmed(answer) != :ok, do: lease
  end

  @spec nack(lease(), non_neg_integer()) :: settled()
  def nack(lease, delay) do
    with :dead <- retry(lease, delay, Reason.encode(:max_attempts)), do: :ok
  end

  @spec release(lease(), non_neg_integer()) :: settled()
  def release({:nats, index, lease, _}, delay), do: index |> Native.release(lease, delay) |> confirmed()

  @spec retry(lease(), non_neg_integer(), binary()) :: settled() | :dead
  def retry({:nats, index, lease, _}, delay, reason), do: index |> Native.retry(lease, delay, reason) |> confirmed()

  @spec reject(lease(), binary()) :: settled()
  def reject({:nats, index, lease, _}, reason), do: index |> Native.reject(lease, reason) |> confirmed()

  @spec expire(lease(), non_neg_integer(), binary()) :: :ok | {:error, :stale_lease}
  def expire({:nats, index, lease, _}, delay, reason), do: Native.expire(index, lease, delay, reason)

  defp confirmed(:stale_lease), do: {:error, :stale_lease}
  defp confirmed(token), do: await(token)

  # --- looking and operating -----------------------------------------------------------------------------------------

  @spec stats(atom()) :: %{queue_size: non_neg_integer(), in_flight: non_neg_integer()}
  def stats(queue) do
    {waiting, in_flight} = queue |> index!() |> Native.stats() |> await() |> ok!()
    %{queue_size: waiting, in_flight: in_flight}
  end

  @spec info(atom()) :: map()
  def info(queue) do
    index = index!(queue)
    index |> Native.info(@question) |> await() |> ok!() |> seen(index)
  end

  @doc "As `info/1`, for one who reports: an error where no such queue is or the servers do not answer soon."
  @spec look(atom()) :: map() | {:error, :queue_unavailable}
  def look(queue) do
    with {index, _} <- :persistent_term.get({__MODULE__, queue}, nil),
         true <- Native.connected(index),
         {:ok, seen} <- index |> Native.info(@look) |> await() do
      seen(seen, index)
    else
      _ -> {:error, :queue_unavailable}
    end
  end

  @doc "What this node knows by itself of a queue: a part of `info/1`."
  @spec here(atom()) :: map() | {:error, :queue_unavailable}
  def here(queue) do
    case :persistent_term.get({__MODULE__, queue}, nil) do
      {index, _} -> local(index)
      nil -> {:error, :queue_unavailable}
    end
  end

  @doc "What can be said of a queue now: `look/1`, or `here/1` with `connected: false`; nil if there is no such queue."
  @spec report(atom()) :: map() | nil
  def report(queue) do
    with {:error, :queue_unavailable} <- look(queue), %{} = here <- here(queue) do
      %{here | connected: false}
    else
      %{} = info -> %{info | connected: true}
      {:error, :queue_unavailable} -> nil
    end
  end

  defp seen({waiting, in_flight, bytes, oldest, dead}, index) do
    here = local(index)

    Map.merge(here, %{
      queue_size: waiting,
      in_flight: in_flight,
      scheduled: 0,
      bytes: bytes,
      oldest_ms: oldest,
      dead: dead,
      dead_dropped: max(here.died - here.requeued - dead, 0)
    })
  end

  @counters [:enqueued, :settled, :redelivered, :rejected_full, :died, :requeued, :purged, :repeated]

  defp local(index) do
    {capacity, max_bytes, max_payload, max_attempts, max_dead} = Native.settings(index)

    Map.merge(counters(index), %{
      engine: :nats,
      connected: Native.connected(index),
      capacity: capacity,
      max_bytes: max_bytes,
      max_payload_bytes: max_payload,
      max_attempts: max_attempts,
      max_dead: max_dead,
      parked: Native.parked(index),
      state: Native.state(index)
    })
  end

  defp counters(index), do: @counters |> Enum.zip(Native.counters(index)) |> Map.new()

  @doc "How many items this node has settled. Asks nobody."
  @spec settled(atom()) :: non_neg_integer()
  def settled(queue), do: (queue |> index!() |> counters()).settled

  @spec settings(atom()) :: PaymentQueue.Native.settings()
  def settings(queue), do: queue |> index!() |> Native.settings() |> PaymentQueue.Options.settings_of_nats()

  @spec configure(atom(), PaymentQueue.Native.settings()) :: :ok
  def configure(queue, settings) do
    with {:error, text} <- queue |> index!() |> Native.configure(limits(settings)) |> await(), do: unanswered!(text)
  end

  @spec peek(atom(), non_neg_integer()) :: [{:decoded, term()}]
  def peek(queue, n) do
    for payload <- queue |> index!() |> Native.peek(n) |> await() |> ok!(), do: {:decoded, Payload.show(payload)}
  end

  @spec dead_letters(atom(), non_neg_integer()) :: [{{:decoded, term()}, binary(), pos_integer(), integer()}]
  def dead_letters(queue, n) do
    for {payload, reason, attempts, died_at} <- queue |> index!() |> Native.dead_letters(n) |> await() |> ok!() do
      {{:decoded, Payload.show(payload)}, Payload.reason(reason), attempts, died_at}
    end
  end

  @spec requeue_dead(atom(), pos_integer()) :: non_neg_integer()
  def requeue_dead(queue, n), do: queue |> index!() |> Native.requeue_dead(n) |> await() |> ok!()

  @doc "Removes all items, those in flight too."
  @spec purge(atom()) :: non_neg_integer()
  def purge(queue), do: queue |> index!() |> Native.purge() |> await() |> ok!()

  @spec state(atom()) :: :running | :paused | :closed
  def state(queue), do: queue |> index!() |> Native.state()

  @spec pause(atom()) :: :ok
  def pause(queue), do: queue |> index!() |> Native.pause()

  @spec resume(atom()) :: :ok
  def resume(queue), do: queue |> index!() |> Native.resume()

  @spec close(atom()) :: :ok
  def close(queue), do: queue |> index!() |> Native.close()

  @spec reopen(atom()) :: :ok
  def reopen(queue), do: queue |> index!() |> Native.reopen()

  @doc "Waits until the stream is empty."
  @spec drained(atom(), timeout()) :: :ok | {:error, :timeout}
  def drained(queue, timeout) do
    within = if timeout == :infinity, do: nil, else: timeout
    if queue |> index!() |> Native.await_empty(within) |> await() |> ok!(), do: :ok, else: {:error, :timeout}
  end
end
