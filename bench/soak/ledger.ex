defmodule PaymentQueue.Soak.Ledger do
  @moduledoc """
  What the soak itself knows of each item of one queue, written down by whoever enqueues, takes and settles, and never read off
  the queue. Most laws are checked here, at the moment of the step; what only a quiet point can tell is in
  `PaymentQueue.Soak.Audit`.

  A finished item is forgotten at the quiet point, so the ledger stays small however long the soak takes. An item that comes
  out although the ledger does not know it was finished earlier, was refused, or never went in.

  Each step is written down on the safe side of the call that it describes: an offer before the enqueue, a delivery after
  the take, a release before the lease is given back. Then no order of events on a busy machine looks like a violation.
  """

  alias PaymentQueue.Soak.Waiting

  @enforce_keys [:queue, :items, :keys, :partitions, :violations, :counters]
  defstruct @enforce_keys

  @type t :: %__MODULE__{
          queue: atom(),
          items: :ets.table(),
          keys: :ets.table(),
          partitions: :ets.table(),
          violations: :ets.table(),
          counters: :atomics.atomics_ref()
        }

  @typedoc "A law that was broken, and how."
  @type violation :: {law :: atom(), text :: String.t()}

  # The fields of an item. `due`: not to be delivered before. `settled`: how many leases were acknowledged. `kept`: it was a dead
  # letter at the last quiet point.
  @accepted 2
  @due 3
  @deliveries 5
  @holder 6
  @done_by 7
  @settled 8
  @kept 9

  @counters [
    :calls,
    :steps,
    :offered,
    :accepted,
    :full,
    :closed,
    :duplicate,
    :too_large,
    :unsure,
    :first,
    :delivered,
    :settled,
    :handled,
    :late_stale,
    :kills,
    :restarts,
    :purges,
    :purged,
    :requeued,
    :looks
  ]
  @index @counters |> Enum.with_index(1) |> Map.new()

  # More of one kind say nothing new.
  @most_violations 10

  @doc "An empty ledger. Its tables belong to the caller."
  @spec new(atom()) :: t()
  def new(queue) do
    shared = [:set, :public, write_concurrency: true]

    %__MODULE__{
      queue: queue,
      items: :ets.new(:soak_items, shared),
      keys: :ets.new(:soak_keys, shared),
      partitions: :ets.new(:soak_partitions, shared),
      violations: :ets.new(:soak_violations, shared),
      counters: :atomics.new(length(@counters), [])
    }
  end

  # --- counting ------------------------------------------------------------------------------------------------------

  @spec count(t(), atom(), integer()) :: :ok
  def count(ledger, counter, n \\ 1), do: :atomics.add(ledger.counters, @index[counter], n)

  @spec counted(t(), atom()) :: integer()
  def counted(ledger, counter), do: :atomics.get(ledger.counters, @index[counter])

  @doc "All counters."
  @spec counts(t()) :: %{atom() => integer()}
  def counts(ledger), do: Map.new(@counters, &{&1, counted(ledger, &1)})

  # --- going in ------------------------------------------------------------------------------------------------------

  @doc "An item is about to be enqueued, with this delay in milliseconds."
  @spec offer(t(), non_neg_integer(), non_neg_integer(), term()) :: :ok
  def offer(ledger, id, delay \\ 0, key \\ nil) do
    count(ledger, :offered)
    :ets.insert(ledger.items, {id, 0, Waiting.now() + delay, key, 0, nil, nil, 0, false})
    :ok
  end

  @doc "It is offered with this partition, after all items with a lower id that are."
  @spec partition(t(), non_neg_integer(), term()) :: :ok
  def partition(ledger, id, partition) do
    :ets.insert(ledger.partitions, {{:of, id}, partition})
    :ok
  end

  @doc "It was accepted."
  @spec accept(t(), non_neg_integer()) :: :ok
  def accept(ledger, id) do
    count(ledger, :accepted)
    :ets.update_element(ledger.items, id, {@accepted, 1})
    unique(ledger, :ets.lookup(ledger.items, id))
  end

  # Two items of one key, both accepted and neither ever delivered. Whoever took one of them, settled it and was killed before
  # it wrote anything down would be needed for that to be right, and a purge.
  defp unique(_ledger, [{_, _, _, nil, _, _, _, _, _}]), do: :ok

  defp unique(ledger, [{id, _, _, key, deliveries, _, _, _, _}]) do
    with 0 <- deliveries,
         0 <- counted(ledger, :purges),
         [{_, other}] <- :ets.lookup(ledger.keys, key),
         true <- waiting?(ledger, other),
         do: violate(ledger, :unique, "items #{other} and #{id} of the key #{inspect(key)} are both in the queue")

    :ets.insert(ledger.keys, {key, id})
    :ok
  end

  defp waiting?(ledger, id), do: match?([{_, 1, _, _, 0, _, _, _, _}], :ets.lookup(ledger.items, id))

  @doc "It was refused, or was not tried: nobody may ever get it."
  @spec refuse(t(), non_neg_integer()) :: :ok
  def refuse(ledger, id) do
    with [{_, _, _, _, deliveries, _, _, _, _}] when deliveries > 0 <- :ets.take(ledger.items, id),
         do: violate(ledger, :refused, "item #{id} was refused and delivered")

    :ok
  end

  # --- going out -----------------------------------------------------------------------------------------------------

  @doc "The caller has got the item, as which delivery: what the ledger counts, which is 0 if it should not have."
  @spec deliver(t(), non_neg_integer()) :: non_neg_integer()
  def deliver(ledger, id) do
    count(ledger, :delivered)

    case :ets.lookup(ledger.items, id) do
      [] ->
        violate(ledger, :ghost, "item #{id} came out, but was finished before, was refused or was never in")
        0

      [item] ->
        may_deliver(ledger, item)
        n = :ets.update_counter(ledger.items, id, {@deliveries, 1})
        if n == 1, do: count(ledger, :first)
        in_turn(ledger, id, n, :ets.lookup(ledger.partitions, {:of, id}))
        :ets.update_element(ledger.items, id, [{@holder, self()}, {@done_by, nil}])
        n
    end
  end

  defp may_deliver(ledger, {id, _, due, _, _, holder, done_by, settled, _}) do
    if settled > 0, do: violate(ledger, :settled_twice, "item #{id} was acknowledged and came out again")

    if alive?(holder),
      do: violate(ledger, :two_holders, "item #{id} came out while #{inspect(holder)} has it and lives")

    if alive?(done_by),
      do: violate(ledger, :settled_twice, "item #{id} was done by #{inspect(done_by)}, which lives, and came out again")

    early = due - Waiting.now()
    if early > 0, do: violate(ledger, :early, "item #{id} came out #{early} ms before its time")
  end

  # Whoever had the last one of the partition has settled it, given it back, or is dead. And none comes out for the first time
  # after a younger one.
  defp in_turn(_ledger, _id, _n, []), do: :ok

  defp in_turn(ledger, id, n, [{_, partition}]) do
    {last, youngest} =
      case :ets.lookup(ledger.partitions, {:in, partition}) do
        [] -> {id, id}
        [{_, last, youngest}] -> {last, youngest}
      end

    :ets.insert(ledger.partitions, {{:in, partition}, id, max(id, youngest)})
    place = "the partition #{inspect(partition)}"

    with true <- last != id,
         [item] <- :ets.lookup(ledger.items, last),
         true <- item |> elem(@holder - 1) |> alive?(),
         do: violate(ledger, :partition, "item #{id} came out while item #{last} of #{place} was in flight")

    if n == 1 and id < youngest,
      do: violate(ledger, :partition, "item #{id} came out after item #{youngest} of #{place}")
  end

  defp alive?(nil), do: false
  defp alive?(pid), do: Process.alive?(pid)

  @doc "The holder is about to give the item back, or to make it a dead letter."
  @spec release(t(), non_neg_integer()) :: :ok
  def release(ledger, id), do: note(ledger, id, [{@holder, nil}])

  @doc "The holder is about to settle the item."
  @spec done(t(), non_neg_integer()) :: :ok
  def done(ledger, id) do
    count(ledger, :handled)
    note(ledger, id, [{@holder, nil}, {@done_by, self()}])
  end

  @doc "The lease of the nth delivery was acknowledged, and the answer was `:ok`."
  @spec settled(t(), non_neg_integer(), pos_integer()) :: :ok
  def settled(ledger, id, n) do
    count(ledger, :settled)
    note(ledger, id, [{@holder, nil}])

    case :ets.lookup(ledger.items, id) do
      [] ->
        violate(ledger, :ghost, "item #{id}, which the ledger does not know, was acknowledged")

      [{_, _, _, _, deliveries, _, _, _, _}] ->
        if deliveries > n,
          do: violate(ledger, :stale_ack, "delivery #{n} of item #{id} was acknowledged after delivery #{deliveries}")

        if :ets.update_counter(ledger.items, id, {@settled, 1}) > 1,
          do: violate(ledger, :settled_twice, "item #{id} was acknowledged twice")
    end

    :ok
  end

  defp note(ledger, id, changes) do
    :ets.update_element(ledger.items, id, changes)
    :ok
  end

  @doc """
  Items that were accepted and never delivered, at least: what the queue's capacity bounds. What was purged counts as
  such, though some of it was delivered before.
  """
  @spec fresh(t()) :: integer()
  def fresh(ledger) do
    # Accepted first: an item that comes and goes between the readings must not count.
    accepted = counted(ledger, :accepted)
    accepted - counted(ledger, :first) - counted(ledger, :purged)
  end

  @doc "Whether no more than the capacity was accepted and not taken, but for what nobody has written down yet."
  @spec bound(t(), pos_integer(), non_neg_integer()) :: :ok
  def bound(ledger, capacity, slack) do
    fresh = fresh(ledger)

    if fresh > capacity + slack,
      do: violate(ledger, :bound, "#{fresh} items were accepted and not taken, the capacity is #{capacity}")

    :ok
  end

  # --- the quiet point -----------------------------------------------------------------------------------------------

  @doc "Folds over all items: `{id, accepted?, deliveries, done?, settled, kept?}`."
  @spec fold(t(), acc, (tuple(), acc -> acc)) :: acc when acc: term()
  def fold(ledger, acc, fun) do
    :ets.foldl(
      fn {id, accepted, _, _, deliveries, _, done_by, settled, kept}, acc ->
        fun.({id, accepted == 1, deliveries, done_by != nil, settled, kept}, acc)
      end,
      acc,
      ledger.items
    )
  end

  @doc "Forgets all items but these dead letters, and starts the counters again."
  @spec turn(t(), MapSet.t()) :: :ok
  def turn(ledger, dead) do
    kept = for id <- dead, [item] <- [:ets.lookup(ledger.items, id)], do: item |> put_elem(@kept - 1, true)
    :ets.delete_all_objects(ledger.items)
    :ets.delete_all_objects(ledger.keys)
    :ets.delete_all_objects(ledger.partitions)
    :ets.insert(ledger.items, Enum.map(kept, &put_elem(&1, @due - 1, Waiting.now())))
    for n <- 1..length(@counters), do: :atomics.put(ledger.counters, n, 0)
    :ok
  end

  # --- violations ----------------------------------------------------------------------------------------------------

  @doc "Writes down that a law was broken."
  @spec violate(t(), atom(), String.t()) :: :ok
  def violate(ledger, law, text) do
    if :ets.info(ledger.violations, :size) < @most_violations,
      do: :ets.insert(ledger.violations, {System.unique_integer([:monotonic]), {law, text}})

    :ok
  end

  @doc "The laws that were broken, in their order."
  @spec violations(t()) :: [violation()]
  def violations(ledger), do: ledger.violations |> :ets.tab2list() |> Enum.sort() |> Enum.map(&elem(&1, 1))
end
