defmodule PaymentQueue.Soak.Audit do
  @moduledoc """
  A queue at rest, against its ledger: where is each item that was accepted since the last quiet point?

  `info/1` is read twice, at the last quiet point and now; what happened in between is told by both sides, and both must tell
  the same. What the ledger cannot know of single items, because the queue answers with numbers, is checked as numbers: which
  items a purge removed and which dead letters made room for newer ones.
  """

  alias PaymentQueue.Soak.Ledger

  @typedoc """
  `before` and `now`: two `PaymentQueue.info/1`; `dead`: the ids of all dead letters.
  """
  @type facts :: %{before: map(), now: map(), dead: [non_neg_integer()]}

  @shown 5

  @doc "Checks the laws that hold at a quiet point, and writes what is broken into the ledger."
  @spec run(Ledger.t(), facts()) :: :ok
  def run(ledger, facts) do
    dead = MapSet.new(facts.dead)
    found = Ledger.fold(ledger, nothing(), &sort(&1, &2, dead))

    for {law, text} <-
          conservation(facts.now) ++ at_rest(facts.now) ++ dead(found, dead, facts) ++ each(found) ++ sums(found, facts),
        do: Ledger.violate(ledger, law, text)

    :ok
  end

  @doc "A queue that hands out nothing was offered more than its room: exactly its room is filled, whoever looks."
  @spec full(Ledger.t(), pos_integer(), non_neg_integer(), map()) :: :ok
  def full(ledger, room, accepted, stats) do
    unless accepted == room and stats == %{queue_size: room, in_flight: 0},
      do:
        Ledger.violate(ledger, :bound, "a room of #{room} items took #{accepted}, and the queue says #{inspect(stats)}")

    :ok
  end

  # --- the items -----------------------------------------------------------------------------------------------------

  # `new`: accepted since the last quiet point. `unknown`: nobody lived to say whether it was accepted, and it never came out.
  defp nothing,
    do: %{new: 0, settled: 0, handled: 0, dead: 0, missing: 0, unknown: 0, twice: [], undead: [], lost: []}

  defp sort({id, accepted?, deliveries, done?, settled, kept?}, found, dead) do
    in? = accepted? or deliveries > 0
    found = if in? and not kept?, do: add(found, :new), else: found
    found = if settled > 1, do: show(found, :twice, id), else: found

    cond do
      id in dead -> if settled > 0, do: found |> add(:dead) |> show(:undead, id), else: add(found, :dead)
      settled > 0 -> add(found, :settled)
      done? -> add(found, :handled)
      in? -> found |> add(:missing) |> show(:lost, id)
      true -> add(found, :unknown)
    end
  end

  defp add(found, key), do: Map.update!(found, key, &(&1 + 1))
  defp show(found, key, id), do: Map.update!(found, key, &Enum.take([id | &1], @shown))

  defp each(found) do
    for(id <- found.twice, do: {:settled_twice, "item #{id} was acknowledged more than once"}) ++
      for id <- found.undead, do: {:settled_twice, "item #{id} was acknowledged and is a dead letter"}
  end

  # --- the queue alone -----------------------------------------------------------------------------------------------

  defp conservation(info) do
    sum = info.settled + info.queue_size + info.in_flight + info.scheduled + info.dead + info.dead_dropped + info.purged

    if info.enqueued == sum,
      do: [],
      else: [{:conservation, "enqueued #{info.enqueued}, but found #{sum}: #{show(info)}"}]
  end

  defp at_rest(info) do
    for {what, n} when n != 0 <- Map.take(info, [:queue_size, :in_flight, :scheduled, :bytes]),
        do: {:rest, "#{what} is #{n} on a queue that should be empty: #{show(info)}"}
  end

  defp show(info), do: inspect(Map.drop(info, [:wait_us, :handler_us]), limit: :infinity)

  # --- the queue against the ledger ------------------------------------------------------------------------------------

  defp dead(found, dead, %{now: now} = facts) do
    twice = length(facts.dead) - MapSet.size(dead)
    strangers = MapSet.size(dead) - found.dead

    for {wrong?, text} <- [
          {twice != 0, "#{twice} dead letters are there twice"},
          {strangers != 0, "#{strangers} dead letters are unknown to the ledger"},
          {length(facts.dead) != now.dead, "info says #{now.dead} dead letters, #{length(facts.dead)} are shown"}
        ],
        wrong?,
        do: {:dead, text}
  end

  defp sums(found, %{before: before, now: now}) do
    enqueued = now.enqueued - before.enqueued
    # Numbers without names: these may be missing.
    dropped = now.dead_dropped - before.dead_dropped + now.purged - before.purged
    over = now.settled - before.settled + dropped
    known = found.settled + found.handled + found.missing

    for {wrong?, law, text} <- [
          {enqueued not in found.new..(found.new + found.unknown), :accepted,
           "the queue accepted #{enqueued} items, callers were told so of #{found.new}#{perhaps(found)}"},
          {found.missing > dropped, :lost,
           "#{found.missing} items are nowhere, purged or dropped as dead are #{dropped}; among the lost: #{inspect(found.lost)}"},
          {over not in known..(known + found.unknown), :settled,
           "the queue settled, purged or dropped #{over} items, the ledger knows of #{known}#{perhaps(found)}"},
          {now.settled - before.settled < found.settled, :settled,
           "the queue settled #{now.settled - before.settled} items, #{found.settled} acknowledgements were answered with :ok"}
        ],
        wrong?,
        do: {law, text}
  end

  defp perhaps(%{unknown: 0}), do: ""
  defp perhaps(%{unknown: n}), do: " and of #{n} not for sure"
end
