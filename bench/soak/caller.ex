defmodule PaymentQueue.Soak.Caller do
  @moduledoc """
  A process that enqueues: items of random shape and size, one by one and many at once, with the options of its kind of queue.
  Each caller has random numbers and ids of its own, so the nth caller of a seed always offers the same.

  It checks each answer: a queue may refuse for the reasons that the soak gives it and for no other.
  """

  import Bitwise

  alias PaymentQueue.Soak.{Kind, Ledger, Payload, Waiting}

  @type context :: %{queue: atom(), kind: Kind.t(), ledger: Ledger.t(), seed: term(), number: pos_integer()}

  # Ids of one caller.
  @ids 32
  # And of one of the processes that fill a queue.
  @ids_of_filler 16
  @keys 400
  @partitions 5
  @most 40
  # What the disk has to answer in, even if the VM is stopped for a while.
  @fill_ms 600_000

  @doc "Enqueues until it is killed; `hold/1` lets it pause."
  @spec run(context()) :: no_return()
  def run(context) do
    :rand.seed(:exsss, :erlang.phash2({context.seed, context.kind.name, context.number}, bsl(1, 32)))
    loop(context, bsl(context.number, @ids))
  end

  @doc "Lets the callers finish what they are doing and wait for `go/1`. Those that die meanwhile are as good."
  @spec hold([pid()]) :: :ok
  def hold(callers), do: Waiting.ask_all(callers, :hold)

  @doc "Lets them go on."
  @spec go([pid()]) :: :ok
  def go(callers), do: Enum.each(callers, &send(&1, :go))

  defp loop(context, id) do
    receive do
      {:hold, from, tag} ->
        Waiting.answer(from, tag)
        receive(do: (:go -> loop(context, id)))
    after
      Enum.random([0, 0, 1, 1, 2, 5]) -> loop(context, id + call(context, id))
    end
  end

  # Returns how many ids were used.
  defp call(context, id) do
    Ledger.count(context.ledger, :calls)

    case :rand.uniform(1_000) do
      n when n <= 700 -> one(context, id)
      n when n <= 998 -> many(context, id, :rand.uniform(@most))
      _ -> too_large(context, id)
    end
  end

  defp one(context, id) do
    options = options(context.kind)
    {delay, key} = {Keyword.get(options, :delay, 0), key(context.kind, id)}
    Ledger.offer(context.ledger, id, delay, key)
    partition = partition(context, id)
    options = for({name, value} <- [key: key, partition: partition], value, do: {name, value}) ++ options

    case PaymentQueue.enqueue(Payload.random(id), [queue: context.queue] ++ options) do
      :ok -> Ledger.accept(context.ledger, id)
      {:error, reason} -> refused(context, reason, [id])
    end

    1
  end

  defp many(context, id, n) do
    options = options(context.kind)
    ids = Enum.to_list(id..(id + n - 1))
    payloads = Enum.map(ids, &Payload.random/1)
    for id <- ids, do: Ledger.offer(context.ledger, id, Keyword.get(options, :delay, 0), key(context.kind, id))
    for id <- ids, do: partition(context, id)
    options = if :key in context.kind.items, do: [key: &key_of(context.kind, &1)] ++ options, else: options

    options =
      if :partition in context.kind.items, do: [partition: &(&1 |> id_of() |> partition_of())] ++ options, else: options

    case PaymentQueue.enqueue_many(payloads, [queue: context.queue] ++ options) do
      {:ok, ^n} ->
        for id <- ids, do: Ledger.accept(context.ledger, id)

      {:error, reason, accepted} when accepted < n ->
        {ins, outs} = Enum.split(ids, accepted)
        for id <- ins, do: Ledger.accept(context.ledger, id)
        refused(context, reason, outs)
    end

    n
  end

  defp too_large(context, id) do
    Ledger.offer(context.ledger, id)

    case PaymentQueue.enqueue(Payload.too_large(id), queue: context.queue) do
      {:error, reason} when reason in [:payload_too_large, :queue_closed] -> refused(context, reason, [id])
      answer -> Ledger.violate(context.ledger, :too_large, "a payload above max_payload_bytes got #{inspect(answer)}")
    end

    1
  end

  # --- options -------------------------------------------------------------------------------------------------------

  defp options(kind), do: for(name <- Enum.uniq([:delay | kind.items]), value = value(name, kind), do: {name, value})

  # Some items of every kind are delayed, and many where delays are what the kind is about; none where that would change the
  # order that is checked.
  defp value(:delay, kind) do
    often = if :delay in kind.items, do: 3, else: 40
    if :partition not in kind.items and :rand.uniform(often) == 1, do: :rand.uniform(300)
  end

  defp value(:priority, kind), do: :rand.uniform(Kind.option(kind, :priorities)) - 1
  # Follow from the item: see `key/2` and `partition/2`.
  defp value(name, _kind) when name in [:key, :partition], do: nil

  defp key(kind, id), do: if(:key in kind.items, do: {:payment, :erlang.phash2(id, @keys)})

  defp key_of(kind, payload), do: key(kind, id_of(payload))

  defp partition(context, id) do
    if :partition in context.kind.items do
      partition = partition_of(id)
      Ledger.partition(context.ledger, id, partition)
      partition
    end
  end

  # Its caller's own, for there is an order only in what one caller offers.
  defp partition_of(id), do: {bsr(id, @ids), rem(id, @partitions)}

  defp id_of(payload) do
    {:ok, id} = Payload.read(payload)
    id
  end

  # --- refusals ------------------------------------------------------------------------------------------------------

  @reasons %{queue_full: :full, queue_closed: :closed, duplicate: :duplicate, payload_too_large: :too_large}

  # A disk that has not answered in time has said nothing.
  defp refused(context, {:storage, :timeout}, ids), do: Ledger.count(context.ledger, :unsure, length(ids))

  # Nor has a server.
  defp refused(%{kind: %{place: :nats}} = context, :queue_unavailable, ids),
    do: Ledger.count(context.ledger, :unsure, length(ids))

  defp refused(context, reason, ids) do
    case @reasons do
      %{^reason => counter} -> Ledger.count(context.ledger, counter)
      _ -> Ledger.violate(context.ledger, :refusal, "refused with #{inspect(reason)}")
    end

    if reason == :duplicate and :key not in context.kind.items,
      do: Ledger.violate(context.ledger, :refusal, "a duplicate without keys")

    for id <- ids, do: Ledger.refuse(context.ledger, id)
  end

  # --- the exact bound -----------------------------------------------------------------------------------------------

  @doc """
  Several processes offer payloads of `size` bytes to a queue that hands out nothing, each `n` of them: the ids of those that
  were accepted.
  """
  @spec fill(context(), pos_integer(), pos_integer()) :: [Payload.id()]
  def fill(context, n, size) do
    for p <- 0..3 do
      Task.async(fn ->
        for i <- 1..n, id = bsl(context.number, @ids) + bsl(p, @ids_of_filler) + i, filled?(context, id, size), do: id
      end)
    end
    |> Task.await_many(:infinity)
    |> Enum.concat()
  end

  @doc "Whether the ids of each process that has filled a queue stand in their order."
  @spec in_order?([Payload.id()]) :: boolean()
  def in_order?(ids) do
    ids |> Enum.group_by(&bsr(&1, @ids_of_filler)) |> Enum.all?(fn {_filler, ids} -> ids == Enum.sort(ids) end)
  end

  defp filled?(context, id, size) do
    Ledger.offer(context.ledger, id)
    filled(context, id, PaymentQueue.enqueue(Payload.binary(id, size), queue: context.queue, timeout: @fill_ms))
  end

  defp filled(context, id, :ok) do
    Ledger.accept(context.ledger, id)
    true
  end

  defp filled(context, id, {:error, reason}) do
    if reason != :queue_full, do: Ledger.violate(context.ledger, :refusal, "refused with #{inspect(reason)}")
    Ledger.refuse(context.ledger, id)
    false
  end
end
