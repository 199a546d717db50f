defmodule PaymentQueue.Migration do
  @moduledoc """
  Moves a running application from its old queue to `PaymentQueue`, step by step and back at any point.

      children = [
        MyApp.OldQueue,
        {PaymentQueue, capacity: 10_000, handler: MyApp.PayGateway},
        {PaymentQueue.Migration, legacy: MyApp.OldQueue, key: & &1.customer_id}
      ]

      # where the application enqueued into the old queue
      PaymentQueue.Migration.enqueue(payment)

      # later, in a remote console
      PaymentQueue.Migration.set_mode({:percent, 5})
      IO.puts(PaymentQueue.Migration.report())

  The guide "Migrating" walks an application through it. The old queue is any module that
  `PaymentQueue.Migration.Legacy` describes; usually it is passed as it is.

  ## Modes

  | mode | a new item goes to | handled by |
  |---|---|---|
  | `:legacy` | the old queue | its workers |
  | `:shadow` | the old queue, and a copy to a shadow queue | the old queue's workers; copies are thrown away |
  | `{:percent, p}` | this library for `p` percent of the keys, else the old queue | the workers of the side it went to |
  | `:native` | this library | its workers |

  An item goes to one side, once; what that side says is what the caller gets. A refusal is not tried on the other side:
  it would hide the very thing that is to be measured.

  **Percent is sticky.** The same key goes to the same side while `p` stays, and raising `p` moves keys only from the old
  queue to the new one. The key is the option `key:` of `enqueue/2`, or what the function `key:` of `start_link/1` makes of
  the payload, or the payload itself. All nodes agree, because it is a hash. `p` may have two decimals.

  **A shadow copy is never handled.** Copies go to a queue of their own, named `:"<name>.migration.shadow"`, whose only
  worker drops them. It has the capacity and limits of the real queue, so it refuses what that would refuse for its size. It
  runs no handler of the application, and copies never touch the real queue. The caller's answer is the old queue's.

  **The mode is one atomic word.** `enqueue/2` reads it without asking a process; a change holds from the next call on,
  in this VM. Calls already under way end on the side where they began. On several nodes, set it on each:

      :erpc.multicall([node() | Node.list()], PaymentQueue.Migration, :set_mode, [:native])

  Like a queue, the mode outlives the processes: `start_link/1` with the same name, old queue and queue finds it as it was,
  and its option `mode:` counts for the first start in a VM. So put a mode that you want to keep into the configuration
  too.

  ## No loss, no doubles

  Each side keeps its own promises: the old queue loses what it always lost, this library delivers at least once. Between
  them:

    * every accepted item is on exactly one side, whatever happens to the mode meanwhile;
    * after a rollback, what is in the new queue stays there and its workers handle it;
    * `drain_legacy/1` moves one item at a time, and stops when the mode gives the old queue new items again. What it has
      in hand while there is no room stands in a native queue that outlives every process.

  One window stays, because an old queue has no leases: when the VM ends between the moment in which the old queue lets go of
  an item and the moment in which this library accepts it, that one item is lost, as it would be with any old worker then.
  A shutdown, a crash or a kill of the migration's processes does not open it: the process that holds the item is reached by none
  of these, and ends when the item has a place. Whoever seeks that unregistered process out and kills it opens the window too. And if
  it is killed just after an item that had waited in hand was accepted, that item is there twice: delivery is at least once.
  So it may be when an item has to go back and the old queue's `enqueue/1` neither takes nor refuses it but exits, as a call does
  that waited too long: the item may be there already, and is put into the new queue as well rather than lost.

      iex> {:ok, _} = PaymentQueue.start_link(name: :docs_migration)
      iex> {:ok, _} = PaymentQueue.Migration.start_link(name: :docs_migration, queue: :docs_migration, legacy: DocsOldQueue)
      iex> PaymentQueue.Migration.enqueue(%{amount: 1990}, name: :docs_migration)
      :ok
      iex> DocsOldQueue.stats()
      %{queue_size: 1, in_flight: 0}
      iex> PaymentQueue.Migration.set_mode(:native, name: :docs_migration)
      :ok
      iex> PaymentQueue.Migration.drain_legacy(name: :docs_migration)
      {:ok, 1}
      iex> PaymentQueue.peek(1, :docs_migration)
      [%{amount: 1990}]
  """

  alias PaymentQueue.Migration.{Drainer, Legacy, Mode, Report, Route}
  alias PaymentQueue.{Native, Operations, Options}

  require Logger

  @default :default

  @typedoc "Where new items go. `p` is 0 to 100 with at most two decimals."
  @type mode :: :legacy | :shadow | {:percent, p :: number()} | :native

  @doc """
  Starts a migration: what `drain_legacy/1` and shadow mode need, linked to the caller. The queue has to exist before.

  | option | default | |
  |---|---|---|
  | `legacy:` | | the old queue's module, see `PaymentQueue.Migration.Legacy` |
  | `queue:` | `:default` | the name of the new queue |
  | `mode:` | `:legacy` | for the first start in this VM; later ones find the mode as it was |
  | `key:` | the payload itself | a function of the payload, for `{:percent, p}`; what it raises, `enqueue/2` raises, and nothing is enqueued |
  | `name:` | `:default` | an atom, for several migrations in one VM |

  An unknown option, a value out of range or a queue that was never started raises `ArgumentError`. A name whose migration
  is running gives `{:error, {:already_started, pid}}`.
  """
  @spec start_link(keyword()) :: Supervisor.on_start()
  def start_link(opts), do: opts |> config!() |> PaymentQueue.Migration.Supervisor.start_link()

  @doc "A child specification; its id holds the name, so one supervisor can have several migrations."
  @spec child_spec(keyword()) :: Supervisor.child_spec()
  def child_spec(opts) do
    name = if Keyword.keyword?(opts), do: Keyword.get(opts, :name, @default), else: @default
    %{id: {__MODULE__, name}, start: {__MODULE__, :start_link, [opts]}, type: :supervisor}
  end

  defp config!(opts) do
    opts = Keyword.validate!(opts, [:legacy, queue: :default, mode: :legacy, key: nil, name: @default])

    unless opts[:key] == nil or is_function(opts[:key], 1) do
      raise ArgumentError, "invalid value for :key: #{inspect(opts[:key])}; allowed: a function of the payload"
    end

    queue = Options.name!(opts[:queue])
    # Nothing could be accepted by a queue that does not exist, and the first to notice would be a customer.
    _ = queue |> Native.settings() |> Operations.known!(queue)
    name = Options.name!(opts[:name], :name)
    # The longest of the names that are made from it.
    Options.name!(:"#{name}.migration.in_hand", :name)

    %{name: name, legacy: Legacy.check!(opts[:legacy]), queue: queue, key: opts[:key], mode: Mode.encode!(opts[:mode])}
  end

  @doc """
  Puts a payload into the queue that the mode says. Calls no process of the migration; costs what that queue costs, and a
  fraction of a microsecond for counting and timing it.

  Options: `key:`, see "Percent is sticky" above, and `name:` of the migration.

  Answers `:ok` or `{:error, reason}`. The new queue's reasons are those of `PaymentQueue.enqueue/2`, the old queue's are its
  own; `{:error, :refused}` stands for its `false` or `:error`, and `{:error, {:bad_return, value}}` for an answer that
  `PaymentQueue.Migration.Legacy` does not know. What the old queue raises, or exits with, is raised here, too.
  """
  @spec enqueue(term(), keyword()) :: :ok | {:error, term()}
  def enqueue(payload, opts \\ [])
  def enqueue(payload, []), do: Route.enqueue(Route.fetch!(@default), payload, nil)
  def enqueue(payload, key: key), do: Route.enqueue(Route.fetch!(@default), payload, key)

  def enqueue(payload, opts) do
    opts = Keyword.validate!(opts, key: nil, name: @default)
    Route.enqueue(Route.fetch!(opts[:name]), payload, opts[:key])
  end

  @doc """
  Changes the mode. It holds from the next `enqueue/2` on. Option: `name:`.

  `{:error, :queue_closed}`: the new queue is closed and would refuse what `{:percent, p}` or `:native` sends to it.
  `{:error, :not_running}`: `:shadow` needs the migration's processes, which are not running. The way back to `:legacy` needs
  nothing and is always open.
  """
  @spec set_mode(mode(), keyword()) :: :ok | {:error, :queue_closed | :not_running | term()}
  def set_mode(mode, opts \\ []) do
    word = Mode.encode!(mode)
    route = route!(opts)

    with :ok <- ready(word, route) do
      before = Route.mode(route)
      if before != word, do: change(route, before, word)
      :ok
    end
  end

  defp change(route, before, word) do
    :ok = Route.put_mode(route, word)
    [before, now] = Enum.map([before, word], &inspect(Mode.decode(&1)))
    Logger.notice("PaymentQueue.Migration #{inspect(route.name)}: from mode #{before} to #{now}")
  end

  defp ready(word, route) do
    cond do
      Mode.route(word) == :shadow -> PaymentQueue.Migration.Supervisor.start_shadow(route)
      Mode.native_live?(word) and PaymentQueue.info(route.queue).state == :closed -> {:error, :queue_closed}
      true -> :ok
    end
  end

  @doc "The present mode. Option: `name:`."
  @spec mode(keyword()) :: mode()
  def mode(opts \\ []), do: opts |> route!() |> Route.mode() |> Mode.decode()

  @doc """
  Both queues together, for `/health` while the application has two: `%{queue_size: n, in_flight: m}`. Costs what the old
  queue's `stats/0` costs, and raises if that does not answer. Option: `name:`.
  """
  @spec stats(keyword()) :: %{queue_size: non_neg_integer(), in_flight: non_neg_integer()}
  def stats(opts \\ []) do
    route = route!(opts)
    new = PaymentQueue.stats(route.queue)

    case Legacy.stats(route.legacy) do
      {:ok, old} ->
        %{queue_size: old.queue_size + new.queue_size, in_flight: old.in_flight + new.in_flight}

      {:error, reason} ->
        raise "#{inspect(route.legacy)}.stats/0 did not answer as PaymentQueue.Migration.Legacy says: #{inspect(reason)}"
    end
  end

  @doc """
  What both sides answered and how fast, see `PaymentQueue.Migration.Report`; printed, it is a table.

  Options: `name:`, and `since:`, which is `:start` (default, the first start in this VM) or `:mode` (the last change of the mode).
  """
  @spec report(keyword()) :: Report.t()
  def report(opts \\ []) do
    {since, opts} = Keyword.pop(opts, :since, :start)

    unless since in [:start, :mode] do
      raise ArgumentError, "invalid value for :since: #{inspect(since)}; allowed: :start or :mode"
    end

    Report.new(route!(opts), since)
  end

  @doc """
  Moves what waits in the old queue into the new one, oldest first, while the old workers may go on; returns when the old
  queue is empty, as `{:ok, moved}`.

    * `timeout:` milliseconds or `:infinity` (default 60_000); a `take/0` that is under way is waited for even longer,
      because an item is between the queues then
    * `max_depth:` it waits while the new queue holds that many items (default: half of its capacity), so that it does
      not take the room of new payments
    * `name:` of the migration

  There is one drain at a time: who calls while one is under way waits for it, with its limits, and gets its answer.

  Otherwise `{:error, reason, moved}`; what was not moved is in the old queue, except what `:bad_return` shows:

    * `:legacy_in_use`: the mode gives the old queue new items; only `:native` or `{:percent, 100}` can be drained
    * `:no_take`: the old queue's module has neither `take/0` nor `dequeue/0`
    * `:timeout`: the time is over
    * `:queue_closed`, `:payload_too_large`, `{:storage, _}`: what the new queue says to an item; the item is back in the
      old queue
    * `{kind, reason}` of what the old queue's function raised
    * `{:bad_return, value}`: what the old queue's function returned and `PaymentQueue.Migration.Legacy` does not know; it is
      logged, too, for if that is an item, it is in no queue any more
    * `:stopped`, `:not_running`: the migration was stopped

  Calls that were under way when the mode changed may put an item into the old queue after this has seen it empty: when
  `report/1` shows neither `unfinished` calls nor a `queue_size` there, it is over. When the caller dies, the drain goes on.
  """
  @spec drain_legacy(keyword()) :: {:ok, non_neg_integer()} | {:error, term(), non_neg_integer()}
  def drain_legacy(opts \\ []) do
    {limits, opts} = Keyword.split(opts, [:timeout, :max_depth])
    route = route!(opts)
    capacity = PaymentQueue.info(route.queue).capacity
    max_depth = Options.count!(Keyword.get(limits, :max_depth, max(div(capacity, 2), 1)), :max_depth, 1, capacity)
    timeout = Keyword.get(limits, :timeout, 60_000)

    unless timeout == :infinity,
      do: Options.count!(timeout, :timeout, 0, Options.max_ms())

    if route.take,
      do: route.name |> PaymentQueue.Migration.Supervisor.drainer() |> Drainer.drain(max_depth, timeout),
      else: {:error, :no_take, 0}
  end

  defp route!(opts), do: opts |> Keyword.validate!(name: @default) |> Keyword.fetch!(:name) |> Route.fetch!()
end
