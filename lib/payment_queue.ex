defmodule PaymentQueue do
  @moduledoc """
  A bounded work queue in native memory, drained by supervised workers.

      children = [
        {PaymentQueue, capacity: 10_000, handler: MyApp.PayGateway, concurrency: 16}
      ]

      # in a request handler
      case PaymentQueue.enqueue(payment) do
        :ok -> send_resp(conn, 204, "")
        {:error, _full_or_closed} -> send_resp(conn, 503, "")
      end

  A queue is named by an atom; every call takes the name and falls back to `:default`. Enqueueing, taking and reading the
  counters are calls into native code: no process, no message, no copy of the backlog on any BEAM heap.

  ## What holds, always

    * **Bound**: with any number of producers there are never more than `capacity` items, nor more than `max_bytes`
      bytes, accepted and not yet taken. Redeliveries and retries are never refused for want of room.
    * **Custody**: an item belongs to the process that took it. When that process dies, by whatever exit, the item is
      back at the head of its queue at once, with its attempt count raised; after `max_attempts` it is a dead letter.
      A lease that was redelivered is stale: settling it is refused.
    * **Order**: by priority, then first in, first out; redelivered items come before fresh ones.
    * **Survival**: the queue outlives every BEAM process, its own supervisor included. It ends with the VM, unless it is
      [durable](durability.md).
    * **Partitions**: items with equal `partition:` are taken one at a time, in the order of acceptance.
    * **Rate**: with `rate_limit: {n, ms}`, no more than `n` items are handed out within any `ms` milliseconds.
    * **No polling**: a parked taker is woken by the enqueue itself, and one item wakes one taker.

  ## Settling

  Delivery is at least once: what was taken is redelivered unless it is settled by `ack/1` or `reject/2`. With a
  `handler:` the workers do that (see `PaymentQueue.Handler`); `take/1` and `dequeue/1` are for consumers of your own.

      iex> {:ok, _} = PaymentQueue.start_link(name: :docs_overview)
      iex> PaymentQueue.enqueue(%{amount: 1990}, queue: :docs_overview)
      :ok
      iex> {:ok, %{amount: 1990}, lease} = PaymentQueue.take(queue: :docs_overview)
      iex> PaymentQueue.stats(:docs_overview)
      %{queue_size: 0, in_flight: 1}
      iex> PaymentQueue.ack(lease)
      :ok
      iex> PaymentQueue.take(queue: :docs_overview)
      :empty
  """

  alias PaymentQueue.{Durable, Enqueuing, Lease, Native, Nats, Operations, Options, Reason, Taking}

  @typedoc "The name of a queue: any atom but `nil`, `true` and `false`, at most 200 bytes."
  @type queue :: atom()

  @typedoc "One delivery of one item. Valid until it is settled or its holder dies; never after a restart of the VM."
  @opaque lease :: {non_neg_integer(), non_neg_integer(), pos_integer()} | Nats.lease()

  @type refusal ::
          :queue_full | :queue_closed | :queue_unavailable | :payload_too_large | :duplicate | {:storage, atom()}

  @type dead_letter :: %{payload: term(), reason: term(), attempts: pos_integer(), died_at: DateTime.t()}

  defguardp is_lease(a, b, c) when is_integer(a) and is_integer(b) and is_integer(c)
  defguardp is_wait(timeout) when timeout == :infinity or (is_integer(timeout) and timeout in 0..4_294_967_295)

  # --- a queue's life ------------------------------------------------------------------------------------------------

  @doc """
  Starts a queue and, with `handler:`, its workers, linked to the caller. Usually called by a supervisor.

  If the queue exists from before (its tree was stopped or killed), it is found again with its items, the settings are
  applied and it is open; if it was paused, it still is. A name whose tree is running gives `{:error, {:already_started, pid}}`.

  | option | default | |
  |---|---|---|
  | `name:` | `:default` | an atom |
  | `capacity:` | `10_000` | most items accepted and not yet taken, 1 to 134_217_727 |
  | `max_bytes:` | 256 MiB | most payload bytes accepted and not yet taken, up to 16 GiB - 1 |
  | `max_payload_bytes:` | 1 MiB | most bytes of one payload, up to 1 GiB - 1 and to `max_bytes` |
  | `max_attempts:` | `20` | deliveries of an item before it is a dead letter, 1 to 65_535 |
  | `max_dead:` | `1_000` | dead letters kept; beyond that the oldest is dropped and counted |
  | `rate_limit:` | `nil` | `{n, ms}`: at most `n` items are handed out within any `ms` milliseconds; see below |
  | `unique_for:` | `nil` | ms for which a `key:` stays taken after its item was settled or died, 0 included; `nil`: no keys |
  | `priorities:` | `1` | how many priorities items may have, up to 16 |
  | `handler:` | none | see `PaymentQueue.Handler`; without it only the queue is started |
  | `concurrency:` | 2 per scheduler | number of workers, 0 to 65_535 |
  | `handler_timeout:` | `:infinity` | ms after which a running handler is killed and its item tried again |
  | `backoff:` | `[min: 100, max: 60_000, jitter: 0.2]` | see `PaymentQueue.Backoff` |
  | `batch:` | `[size: 1, wait: 0]` | with `size` > 1 the handler gets a list, filled for at most `wait` ms |
  | `engine:` | none | `{:nats, opts}`: the items live in NATS JetStream; see the guide on NATS |
  | `shutdown:` | `15_000` | ms that running handlers have to finish when the tree is stopped |
  | `telemetry:` | `[spans: true, interval: 10_000, payload: false]` | whether each item's handling is an event, the ms between two `depth` events, and whether events carry payloads: see `PaymentQueue.Telemetry` |
  | `durability:` | `:none` | `:async` or `:sync`: items are on disk, too; see the guide on durability |
  | `dir:` | none | with `durability:`, the directory under which each queue has its own |

  With `rate_limit: {n, ms}` (`n` up to 100_000) the law is exact: in any window of `ms` milliseconds, wherever it begins, no more
  than `n` deliveries start. Everything that hands out an item counts: `take/1`, `take_many/2`, `dequeue/1`, workers,
  and redeliveries. A taker that comes too early finds the queue `:empty`, or waits parked, without polling, until the next delivery
  may start. `configure/2` changes the limit of a live queue, and `nil` lifts it.

  On an orderly stop the queue is closed (`enqueue/2` answers `{:error, :queue_closed}`), running handlers have `shutdown`
  ms to finish, and what was not finished is in the queue for the next start. A killed tree leaves the queue open.

  An unknown option or a value out of range raises `ArgumentError`.

      iex> PaymentQueue.start_link(name: :docs_typo, capcity: 10)
      ** (ArgumentError) unknown option :capcity for PaymentQueue.start_link/1. Did you mean :capacity?
  """
  @spec start_link(keyword()) :: Supervisor.on_start()
  def start_link(opts), do: opts |> Options.start!() |> PaymentQueue.Supervisor.start_link()

  @doc "A child specification; its id holds the queue's name, so one supervisor can have several queues."
  @spec child_spec(keyword()) :: Supervisor.child_spec()
  def child_spec(opts) do
    # Before it becomes part of what supervisors print: see Nats.Options.
    if Keyword.keyword?(opts) and opts[:engine], do: Options.start!(opts)
    name = if Keyword.keyword?(opts), do: Keyword.get(opts, :name, :default), else: :default
    %{id: {__MODULE__, name}, start: {__MODULE__, :start_link, [opts]}, type: :supervisor}
  end

  @doc """
  Changes `capacity:`, `max_bytes:`, `max_payload_bytes:`, `max_attempts:`, `max_dead:`, `rate_limit:` or `unique_for:` of a live queue;
  the others keep their value. A capacity below the present size refuses new items until the queue has shrunk; nothing is
  dropped. Deliveries that have started count for a changed rate limit, too. Keys that wait for their time to be over keep it;
  `unique_for: nil` forgets all keys.

      iex> {:ok, _} = PaymentQueue.start_link(name: :docs_rate, rate_limit: {2, 60_000})
      iex> {:ok, 3} = PaymentQueue.enqueue_many([:a, :b, :c], queue: :docs_rate)
      iex> length(PaymentQueue.take_many(10, queue: :docs_rate))
      2
      iex> PaymentQueue.configure(:docs_rate, rate_limit: {3, 60_000})
      :ok
      iex> {:ok, :c, _lease} = PaymentQueue.take(queue: :docs_rate)

  Any other option cannot change on a live queue and raises `ArgumentError` (`scale/2` changes the number of workers). A
  restart of the tree applies the options of its `start_link/1` again.
  """
  @spec configure(queue(), keyword()) :: :ok
  def configure(queue, opts), do: Operations.configure(queue, opts)

  @doc "The names of all queues that were ever started in this VM, in no particular order."
  @spec queues() :: [queue()]
  def queues, do: Native.queues() ++ Nats.queues()

  # --- in ------------------------------------------------------------------------------------------------------------

  @doc """
  Puts a payload, any term, at the tail of a queue. Calls no process; a small payload costs a few hundred nanoseconds.

  Options:

    * `queue:` (default `:default`)
    * `priority:` 0 (default, taken first) up to the `priorities:` of the queue less one. Every item of a higher priority is taken
      before any of a lower one; within one priority the order is first in, first out.
    * `delay:` in milliseconds (default 0), before which the item is not taken. It takes up room from the start.
    * `key:` any term but `nil`, of up to 1 KiB in external term format: the item is refused as a `:duplicate` while
      another one with an equal key is queued, scheduled or in flight, and for `unique_for:` ms after that one was settled or became a
      dead letter. Of any number of processes that enqueue one key at the same time, one is accepted. The queue must have been started
      with `unique_for:`.
    * `partition:` any term but `nil`, of up to 1 KiB in external term format: items of equal partitions are taken in the order
      in which they were accepted, and none before the one in front of it is settled, dead or removed.
    * `timeout:` (default 5_000 ms): how long to wait for the disk of a durable queue, or to try where the items are in NATS.

  Answers `:ok`, or `{:error, reason}`:

    * `:queue_full`: there is no room for another item or for its bytes
    * `:payload_too_large`: the payload alone is over `max_payload_bytes`
    * `:duplicate`: an item with an equal `key:` was accepted before
    * `:queue_closed`: the queue is draining or its tree was stopped
    * `:queue_unavailable`: no queue of that name was ever started; or it is in NATS, and no server has confirmed the
      item within `timeout:`: it may or may not be in
    * `{:storage, reason}`: the disk of a durable queue says no (`:enospc`, `:erofs`, `:eio`, ...); the item is not in.
      With the reason `:timeout` it has not answered: the item may still get in

  With `durability: :sync`, `:ok` means that the item is on the disk: the caller is parked and gets a message. If it dies
  meanwhile, the item may or may not be in.

  Binaries are kept as they are, ordinary terms in a compact format, rarer ones in the external term format: what is taken
  out equals what was put in.
  Pids and references keep their meaning within the VM; a local function needs its module to be loaded still.

      iex> {:ok, _} = PaymentQueue.start_link(name: :docs_key, unique_for: 60_000)
      iex> PaymentQueue.enqueue(%{id: 7, amount: 1990}, queue: :docs_key, key: 7)
      :ok
      iex> PaymentQueue.enqueue(%{id: 7, amount: 1990}, queue: :docs_key, key: 7)
      {:error, :duplicate}

      iex> {:ok, _} = PaymentQueue.start_link(name: :docs_partition)
      iex> :ok = PaymentQueue.enqueue({:open, "A-1"}, queue: :docs_partition, partition: "A-1")
      iex> :ok = PaymentQueue.enqueue({:close, "A-1"}, queue: :docs_partition, partition: "A-1")
      iex> {:ok, {:open, "A-1"}, lease} = PaymentQueue.take(queue: :docs_partition)
      iex> PaymentQueue.take(queue: :docs_partition)
      :empty
      iex> {:ok, {:close, "A-1"}, _lease} = PaymentQueue.take(queue: :docs_partition, ack: lease)
  """
  @spec enqueue(term(), keyword()) :: :ok | {:error, refusal()}
  def enqueue(payload, opts \\ [])
  def enqueue(payload, []), do: enqueue_to(:default, payload)
  def enqueue(payload, queue: queue) when is_atom(queue), do: enqueue_to(queue, payload)

  def enqueue(payload, opts), do: Enqueuing.one(payload, opts)

  defp enqueue_to(queue, payload) do
    case Native.enqueue(queue, payload) do
      :ok -> :ok
      answer -> Enqueuing.finish(answer, queue, payload)
    end
  end

  @doc """
  Enqueues a list of payloads in their order. Options as for `enqueue/2`, but `key:` and `partition:` are functions
  of the payload.

  `{:ok, n}`: all `n` are in. `{:error, reason, n}`: the first `n` are in, the next one was refused for `reason`, and the
  rest was not tried: `Enum.drop(payloads, n)` is what is left to do (after a `:duplicate`, `Enum.drop(payloads, n + 1)`).
  The two functions are called for all payloads first: when one of them raises, or makes a key that is not allowed, nothing is in.

      iex> {:ok, _} = PaymentQueue.start_link(name: :docs_many, capacity: 2)
      iex> PaymentQueue.enqueue_many([:a, :b, :c], queue: :docs_many)
      {:error, :queue_full, 2}
  """
  @spec enqueue_many([term()], keyword()) :: {:ok, non_neg_integer()} | {:error, refusal(), non_neg_integer()}
  def enqueue_many(payloads, opts \\ [])
  def enqueue_many(payloads, []) when is_list(payloads), do: Enqueuing.slices(:default, payloads, 0)

  def enqueue_many(payloads, queue: queue) when is_list(payloads) and is_atom(queue),
    do: Enqueuing.slices(queue, payloads, 0)

  def enqueue_many(payloads, opts) when is_list(payloads), do: Enqueuing.many(payloads, opts)

  # --- out -----------------------------------------------------------------------------------------------------------

  @doc """
  Takes the next item: `{:ok, payload, lease}`, or `:empty`.

  The item is the caller's until the lease is settled with `ack/1`, `nack/2` or `reject/2`, or until the caller dies, which
  puts it back at the head of the queue.

    * `queue:` (default `:default`)
    * `timeout:` milliseconds or `:infinity` (default 0): without an item the caller is parked, without polling, until
      an item is handed to it or the time is over. The item arrives as a message that this call receives; a mailbox of
      many unrelated messages makes that slower.
    * `ack: lease`: settles the last item and takes the next in one native call, for loops of your own. If that lease is
      stale, the answer is `{:error, :stale_lease}` and nothing is taken.

  A paused queue is `:empty`, and so is one whose items all wait for their `partition:`. A queue that was never started raises
  `ArgumentError`.

      iex> {:ok, _} = PaymentQueue.start_link(name: :docs_take)
      iex> {:ok, 2} = PaymentQueue.enqueue_many([:a, :b], queue: :docs_take)
      iex> {:ok, :a, first} = PaymentQueue.take(queue: :docs_take)
      iex> {:ok, :b, second} = PaymentQueue.take(queue: :docs_take, ack: first)
      iex> PaymentQueue.take(queue: :docs_take, ack: second, timeout: 10)
      :empty
      iex> PaymentQueue.take(queue: :docs_take, ack: second)
      {:error, :stale_lease}
  """
  @spec take(keyword()) :: {:ok, term(), lease()} | :empty | {:error, :stale_lease | :queue_unavailable}
  def take(opts \\ [])
  def take([]), do: taken(Native.take(:default), :default)
  def take(queue: queue) when is_atom(queue), do: taken(Native.take(queue), queue)

  def take(queue: queue, ack: {a, b, c} = lease) when is_atom(queue) and is_lease(a, b, c),
    do: taken_after(Native.settle_take(queue, lease), queue, lease, 0)

  def take(queue: queue, ack: {a, b, c} = lease, timeout: timeout)
      when is_atom(queue) and is_lease(a, b, c) and is_wait(timeout),
      do: queue |> Native.settle_take(lease) |> taken_after(queue, lease, timeout)

  def take(queue: queue, timeout: timeout) when is_atom(queue) and is_wait(timeout),
    do: queue |> Native.take() |> taken(queue, timeout)

  def take(opts) do
    %{queue: queue, ack: lease, timeout: timeout} = Options.call!(:take, opts)
    Taking.take(queue, lease, timeout)
  end

  defp taken({:ok, _, _} = item, _queue), do: item
  defp taken(:empty, _queue), do: :empty
  defp taken(other, queue), do: Taking.finish(other, queue)

  defp taken_after({:ok, _, _} = item, _queue, _lease, _timeout), do: item
  defp taken_after({:error, :queue_unavailable}, queue, lease, timeout), do: Taking.elsewhere(queue, lease, timeout)
  defp taken_after(other, queue, _lease, timeout), do: Taking.finish(other, queue, timeout)

  defp taken({:ok, _, _} = item, _queue, _timeout), do: item
  defp taken(other, queue, timeout), do: Taking.finish(other, queue, timeout)

  @doc """
  Takes up to `n` items that are there now, oldest first, as `[{payload, lease}]`.

  Options: `queue:`, and `timeout:` (milliseconds or `:infinity`, default 0) to wait for the first of them.
  """
  @spec take_many(non_neg_integer(), keyword()) :: [{term(), lease()}]
  def take_many(n, opts \\ [])
  def take_many(n, queue: queue) when is_integer(n) and n >= 0 and is_atom(queue), do: Taking.many(queue, n)

  def take_many(n, queue: queue, timeout: timeout)
      when is_integer(n) and n >= 0 and is_atom(queue) and is_wait(timeout),
      do: Taking.many_wait(queue, n, timeout)

  def take_many(n, opts) do
    %{queue: queue, timeout: timeout} = Options.call!(:take_many, opts)
    Taking.many_wait(queue, Options.count!(n, :n, 0, Options.max_items()), timeout)
  end

  @doc """
  Takes an item and settles it in one call: `{:ok, payload, wait_ms}` or `:empty`. At most once: if the caller dies now,
  the item is gone.

  `wait_ms` says how long the item was in the queue; it is 0 for an item that was handed to a caller already waiting for
  it. Options: `queue:` and `timeout:` as for `take/1`.
  """
  @spec dequeue(keyword()) :: {:ok, term(), non_neg_integer()} | :empty
  def dequeue(opts \\ [])
  def dequeue([]), do: Taking.dequeue(:default, 0)
  def dequeue(queue: queue) when is_atom(queue), do: Taking.dequeue(queue, 0)

  def dequeue(queue: queue, timeout: timeout) when is_atom(queue) and is_wait(timeout),
    do: Taking.dequeue(queue, timeout)

  def dequeue(opts) do
    %{queue: queue, timeout: timeout} = Options.call!(:dequeue, opts)
    Taking.dequeue(queue, timeout)
  end

  @doc """
  Settles an item for good. Any process may do it. `{:error, :stale_lease}`: it was settled or redelivered before, and is
  not yours any more; nothing was changed.

  Anything but a lease raises `ArgumentError`, here and in the other functions that take one.

      iex> PaymentQueue.ack(:no_lease)
      ** (ArgumentError) expected a lease that take/1 gave out, got: :no_lease
  """
  @spec ack(lease()) :: :ok | {:error, :stale_lease | :queue_unavailable}
  def ack({a, b, c} = lease) when is_lease(a, b, c), do: Native.ack(lease)
  def ack({:nats, _, _, _} = lease), do: Nats.ack(lease)
  def ack(other), do: no_lease!(other)

  @doc """
  Settles many items, of one queue or of several: one native call for each 256 of them.

  `{:error, {:stale_lease, stale}}`: these were settled or redelivered before, or, in NATS, not confirmed in time; all the
  others are settled now.

      iex> {:ok, _} = PaymentQueue.start_link(name: :docs_ack_many)
      iex> {:ok, 2} = PaymentQueue.enqueue_many([:a, :b], queue: :docs_ack_many)
      iex> [{:a, first}, {:b, second}] = PaymentQueue.take_many(10, queue: :docs_ack_many)
      iex> PaymentQueue.ack_many([first, second])
      :ok
      iex> PaymentQueue.ack_many([second]) == {:error, {:stale_lease, [second]}}
      true
  """
  @spec ack_many([lease()]) :: :ok | {:error, {:stale_lease, [lease(), ...]}}
  def ack_many(leases) when is_list(leases) do
    # All are looked at before any is settled: a mistake in the list settles nothing.
    {near, far} = if Enum.all?(leases, &near?/1), do: {leases, []}, else: by_place(leases)

    case ack_slices(near, []) ++ Nats.ack_many(far) do
      [] -> :ok
      stale -> {:error, {:stale_lease, stale}}
    end
  end

  defp near?({a, b, c}) when is_lease(a, b, c), do: true
  defp near?(_), do: false

  defp by_place(leases) do
    {near, far} = Enum.split_with(leases, &near?/1)
    Enum.each(far, &unless(match?({:nats, _, _, _}, &1), do: no_lease!(&1)))
    {near, far}
  end

  defp ack_slices([], stale), do: stale

  defp ack_slices(leases, stale) do
    {more, rest} = Native.ack_many(leases)
    ack_slices(rest, stale ++ more)
  end

  @doc """
  Gives an item back: to the head of its queue at once, or, with `delay: ms`, after that time. The attempt is used up; the
  last one makes it a dead letter.

      iex> {:ok, _} = PaymentQueue.start_link(name: :docs_nack)
      iex> {:ok, 2} = PaymentQueue.enqueue_many([:a, :b], queue: :docs_nack)
      iex> {:ok, :a, lease} = PaymentQueue.take(queue: :docs_nack)
      iex> PaymentQueue.nack(lease)
      :ok
      iex> {:ok, :a, lease} = PaymentQueue.take(queue: :docs_nack)
      iex> PaymentQueue.attempt(lease)
      2
      iex> PaymentQueue.nack(lease, delay: 60_000)
      :ok
      iex> {:ok, :b, _} = PaymentQueue.take(queue: :docs_nack)
      iex> PaymentQueue.info(:docs_nack).scheduled
      1
  """
  @spec nack(lease(), keyword()) :: :ok | {:error, :stale_lease | :queue_unavailable}
  def nack(lease, opts \\ [])
  def nack({a, b, c} = lease, []) when is_lease(a, b, c), do: Native.nack(lease, 0)

  def nack({a, b, c} = lease, opts) when is_lease(a, b, c), do: Native.nack(lease, Options.call!(:nack, opts).delay)
  def nack({:nats, _, _, _} = lease, opts), do: Nats.nack(lease, Options.call!(:nack, opts).delay)
  def nack(other, _opts), do: no_lease!(other)

  @doc """
  Makes an item a dead letter. The reason, any term, is kept with it; one of more than 4 KiB as the beginning of its
  `inspect/2`.

      iex> {:ok, _} = PaymentQueue.start_link(name: :docs_reject)
      iex> :ok = PaymentQueue.enqueue(%{id: 7}, queue: :docs_reject)
      iex> {:ok, _, lease} = PaymentQueue.take(queue: :docs_reject)
      iex> PaymentQueue.reject(lease, :unknown_account)
      :ok
      iex> [%{payload: %{id: 7}, reason: :unknown_account, attempts: 1}] = PaymentQueue.dead_letters(:docs_reject)
      iex> PaymentQueue.requeue_dead(:docs_reject)
      {:ok, 1}
      iex> PaymentQueue.peek(1, :docs_reject)
      [%{id: 7}]
  """
  @spec reject(lease(), term()) :: :ok | {:error, :stale_lease | :queue_unavailable}
  def reject({a, b, c} = lease, reason) when is_lease(a, b, c), do: Native.reject(lease, Reason.encode(reason))
  def reject({:nats, _, _, _} = lease, reason), do: Nats.reject(lease, Reason.encode(reason))
  def reject(other, _reason), do: no_lease!(other)

  @doc "Which delivery of its item a lease is: 1 for the first."
  @spec attempt(lease()) :: pos_integer()
  def attempt({a, b, c} = lease) when is_lease(a, b, c), do: Lease.attempt(lease)
  def attempt({:nats, _, _, attempt}), do: attempt
  def attempt(other), do: no_lease!(other)

  @spec no_lease!(term()) :: no_return()
  defp no_lease!(other),
    do: raise(ArgumentError, "expected a lease that take/1 gave out, got: #{inspect(other, limit: 5)}")

  # --- looking -------------------------------------------------------------------------------------------------------

  @doc """
  How many items wait and how many are taken and not settled: atomic reads, no process, a fraction of a microsecond.

      iex> {:ok, _} = PaymentQueue.start_link(name: :docs_stats)
      iex> PaymentQueue.stats(:docs_stats)
      %{queue_size: 0, in_flight: 0}
  """
  @spec stats(queue()) :: %{queue_size: non_neg_integer(), in_flight: non_neg_integer()}
  def stats(queue \\ :default) do
    case Native.stats(queue) do
      %{} = stats -> stats
      {:error, :queue_unavailable} -> Nats.stats(queue)
    end
  end

  @doc """
  Everything a queue knows about itself, as a map: the settings, the counters since it was created, and the present state.

  `:wait_us` holds percentiles of the time from acceptance to the first delivery, `:handler_us` of the time from a
  delivery to the end of its lease, whatever end that was; both since the queue was created, in microseconds.

  `durability` is `:none`, `:async` or `:sync`. `storage` is nil, or for a durable queue a map: `state` is `:ok` or
  `{:error, reason, detail}` while the disk fails; `unwritten` steps of items (and `unwritten_bytes`) that it does not have
  yet, the oldest since `lag_ms`; `commits` so far; items `recovered` at the start, which count as enqueued; `disk_bytes`; `path`.

  Runs on a dirty scheduler and takes some short locks: for monitoring, where `stats/1` is for requests. The guide
  [Operations](operations.md#what-each-number-means) explains every key.

  With nothing in between two steps, `enqueued = settled + queue_size + in_flight + scheduled + dead + dead_dropped + purged`.
  """
  @spec info(queue()) :: map()
  def info(queue \\ :default) do
    case Native.info(queue) do
      %{} = info -> Durable.describe(info, queue)
      {:error, :queue_unavailable} -> Nats.info(queue)
    end
  end

  @doc """
  The payloads of the first `n` waiting items, in the order in which they would be taken. Removes nothing. Copies what it
  shows, on a dirty scheduler: it is meant for people and tests, not for a hot path.
  """
  @spec peek(non_neg_integer(), queue()) :: [term()]
  def peek(n \\ 1, queue \\ :default), do: Operations.peek(queue, n)

  @doc """
  Up to `n` dead letters, oldest first. Removes nothing; costs like `peek/2`.

  The reason is what the handler or `reject/2` gave, `:timeout` for an item whose handler was killed by `handler_timeout:`,
  `:consumer_down` for one whose holder died, and `:max_attempts` for one that was given back by `nack/2` too often.
  """
  @spec dead_letters(queue(), non_neg_integer()) :: [dead_letter()]
  def dead_letters(queue \\ :default, n \\ 100), do: Operations.dead_letters(queue, n)

  # --- operating -----------------------------------------------------------------------------------------------------

  @doc """
  Stops handing out items; `enqueue/2` goes on. Running handlers finish, workers and takers wait. Holds until `resume/1`,
  also across a restart of the tree.

      iex> {:ok, _} = PaymentQueue.start_link(name: :docs_pause)
      iex> :ok = PaymentQueue.enqueue(:a, queue: :docs_pause)
      iex> PaymentQueue.pause(:docs_pause)
      :ok
      iex> PaymentQueue.take(queue: :docs_pause)
      :empty
      iex> PaymentQueue.resume(:docs_pause)
      :ok
      iex> {:ok, :a, _} = PaymentQueue.take(queue: :docs_pause)
  """
  @spec pause(queue()) :: :ok
  def pause(queue \\ :default), do: Operations.pause(queue)

  @doc "Ends a `pause/1`, and opens a queue that `drain/2` or an orderly stop closed."
  @spec resume(queue()) :: :ok
  def resume(queue \\ :default), do: Operations.resume(queue)

  @doc """
  Sets the number of workers of a running queue, 0 included. Surplus workers stop after their present item. Holds until
  the tree restarts. `{:error, :no_workers}`: the queue was started without a handler, or its tree is not running.
  """
  @spec scale(queue(), non_neg_integer()) :: :ok | {:error, :no_workers}
  def scale(queue \\ :default, workers), do: Operations.scale(queue, workers)

  @doc """
  Closes a queue and waits, without polling, until nothing is queued, in flight or scheduled.

  `{:error, :timeout}` after `timeout:` ms (default: the `shutdown:` of the queue); what is left stays in the queue. Either
  way the queue stays closed until `resume/1` or a new start. Retries and delayed items count as left, so their
  delays may outlast the timeout; a paused queue with items does not get empty.

      iex> {:ok, _} = PaymentQueue.start_link(name: :docs_drain, handler: fn _ -> :ok end)
      iex> {:ok, 3} = PaymentQueue.enqueue_many([1, 2, 3], queue: :docs_drain)
      iex> PaymentQueue.drain(:docs_drain, timeout: 5_000)
      :ok
      iex> PaymentQueue.enqueue(4, queue: :docs_drain)
      {:error, :queue_closed}
      iex> PaymentQueue.resume(:docs_drain)
      :ok
  """
  @spec drain(queue(), keyword()) :: :ok | {:error, :timeout}
  def drain(queue \\ :default, opts \\ []), do: Operations.drain(queue, opts)

  @doc """
  Waits until everything that happened to the items of a durable queue before this call is written: with `:async` to the
  operating system, which keeps it if the VM is killed; with `:sync` to the disk. Does nothing for a queue in memory only, nor
  for one in NATS, where what was answered is with the servers.

  Option: `timeout:` in milliseconds (default 5_000), after which the answer is `{:error, {:storage, :timeout}}`.
  """
  @spec flush(queue(), keyword()) :: :ok | {:error, {:storage, atom()}}
  def flush(queue \\ :default, opts \\ []), do: Operations.flush(queue, opts)

  @doc """
  Removes all waiting and scheduled items for good; answers how many. Items in flight and dead letters are left alone.
  What is enqueued meanwhile may stay.
  """
  @spec purge(queue()) :: {:ok, non_neg_integer()}
  def purge(queue \\ :default), do: Operations.purge(queue)

  @doc """
  Puts dead letters, oldest first, back at the tail of the queue with their attempts reset: all of them, or `n`. Answers
  how many. They are never refused for want of room, not even by a closed queue.
  """
  @spec requeue_dead(queue(), non_neg_integer() | :all) :: {:ok, non_neg_integer()}
  def requeue_dead(queue \\ :default, n \\ :all), do: Operations.requeue_dead(queue, n)
end
