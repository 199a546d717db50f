defmodule PaymentQueue.Migration.EtsAdapter do
  @moduledoc """
  Makes a `PaymentQueue.Migration.Legacy` of a queue that is a public ETS table from which workers take with `:ets.first/1`
  and `:ets.take/2`, and whose module has no function for it.

      defmodule MyApp.OldQueue do
        use PaymentQueue.Migration.EtsAdapter,
          queue: MyApp.EtsQueue,
          table: MyApp.EtsQueue.Table,
          taken: {MyApp.EtsQueue, :count_down, []}
      end

  | option | |
  |---|---|
  | `queue:` | the queue's module, which has `enqueue/1` and `stats/0` |
  | `table:` | the name of the table, or `{module, function, args}` that returns the table |
  | `payload:` | the payload's position in the stored tuple, from 1 (default 2: `{key, payload}`) |
  | `taken:` | `{module, function, args}`, called after an item was taken, where the queue counts its items itself |

  Without `taken:` a queue that counts in `:atomics` would believe itself as full as before the drain, and refuse on.

  The table's first key is the oldest item only in an `ordered_set`. A `bag` or `duplicate_bag`, where one key may hold
  several items, is refused before anything is taken; write a `c:PaymentQueue.Migration.Legacy.take/0` of your own for it.

  Two takers never get the same item: `:ets.take/2` is atomic, and who comes second tries the next key. That holds for old
  workers that take so, too. Those that look an item up and delete it afterwards may handle one that the drain moves: stop
  them before `PaymentQueue.Migration.drain_legacy/1`.
  """

  require Logger

  alias PaymentQueue.Migration.Legacy

  @enforce_keys [:queue, :table]
  defstruct [:queue, :table, :taken, payload: 2]

  @type t :: %__MODULE__{
          queue: module(),
          table: atom() | mfa_call(),
          taken: mfa_call() | nil,
          payload: pos_integer()
        }

  @typep mfa_call :: {module(), atom(), [term()]}

  @doc false
  defmacro __using__(opts) do
    quote location: :keep do
      @behaviour PaymentQueue.Migration.Legacy
      @adapter PaymentQueue.Migration.EtsAdapter.new!(unquote(opts))

      @impl true
      def enqueue(payload), do: @adapter.queue.enqueue(payload)

      @impl true
      def stats, do: @adapter.queue.stats()

      @impl true
      def take, do: PaymentQueue.Migration.EtsAdapter.take(@adapter)

      defoverridable enqueue: 1, stats: 0, take: 0
    end
  end

  @doc false
  @spec new!(keyword()) :: t()
  def new!(opts) do
    opts = Keyword.validate!(opts, [:queue, :table, :taken, payload: 2])
    Legacy.check_option!(opts, :queue, &(is_atom(&1) and &1 != nil), "the module of the queue")

    Legacy.check_option!(
      opts,
      :table,
      &((is_atom(&1) and &1 != nil) or call?(&1)),
      "a name or {module, function, args}"
    )

    Legacy.check_option!(opts, :taken, &(&1 == nil or call?(&1)), "{module, function, args}, or nothing")
    Legacy.check_option!(opts, :payload, &(is_integer(&1) and &1 > 0), "a position in the stored tuple, from 1")
    struct!(__MODULE__, opts)
  end

  defp call?({m, f, args}), do: is_atom(m) and is_atom(f) and is_list(args)
  defp call?(_), do: false

  @doc false
  @spec take(t()) :: {:ok, term()} | :empty
  def take(adapter) do
    table = table(adapter.table)

    if :ets.info(table, :type) in [:bag, :duplicate_bag] do
      raise ArgumentError, "invalid value for :table: #{inspect(table)} is a bag; allowed: a set or an ordered_set"
    end

    take(adapter, table)
  end

  defp take(adapter, table) do
    with key when key != :"$end_of_table" <- :ets.first(table),
         [stored] <- :ets.take(table, key) do
      taken(adapter, table, stored)
    else
      :"$end_of_table" -> :empty
      # Another taker was faster.
      [] -> take(adapter, table)
    end
  end

  defp taken(%{payload: position} = adapter, _table, stored) when tuple_size(stored) >= position do
    count(adapter.taken)
    {:ok, elem(stored, position - 1)}
  end

  # It stays an item of the old queue, whose workers may know where the payload is.
  defp taken(adapter, table, stored) do
    :ets.insert(table, stored)

    raise ArgumentError,
          "invalid value for :payload: #{adapter.payload}; allowed: a position in what the table holds, #{inspect(stored)}"
  end

  defp table({m, f, args}), do: apply(m, f, args)
  defp table(name), do: name

  defp count(nil), do: :ok

  # The item is out of the table: whatever this raises must not cost it.
  defp count({m, f, args}) do
    apply(m, f, args)
  catch
    kind, reason -> Logger.error("PaymentQueue.Migration: taken: #{Exception.format(kind, reason, __STACKTRACE__)}")
  end
end
