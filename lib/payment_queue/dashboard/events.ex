defmodule PaymentQueue.Dashboard.Events do
  @moduledoc false
  # The stream of server-sent events behind the page. A value, advanced by whoever holds the connection: each step reads the
  # queues once and gives the text to send. The one queue that is looked at is read in full, the others by two counters; the
  # dead letters only when there are others than before, because reading them copies their payloads.

  alias PaymentQueue.{JSON, Snapshot}

  # Read in full at each change, so few. They are the oldest, the ones that a requeue puts back first.
  @dead_shown 20
  # As many may have died as were put back, and the numbers are the same: so they are read now and then in any case.
  @dead_every 10

  @settings [:capacity, :max_bytes, :max_payload_bytes, :max_attempts, :max_dead]

  @enforce_keys [:queues, :queue, :payloads]
  defstruct [:queues, :queue, :payloads, :previous, :dead_seen]

  @type t :: %__MODULE__{
          queues: :all | [PaymentQueue.queue()],
          queue: PaymentQueue.queue() | nil,
          payloads: boolean(),
          previous: Snapshot.t() | nil,
          dead_seen: {non_neg_integer(), non_neg_integer(), non_neg_integer()} | nil
        }

  @doc "A stream about `queue`; nil: there is none to look at."
  @spec new(:all | [PaymentQueue.queue()], PaymentQueue.queue() | nil, boolean()) :: t()
  def new(queues, queue, payloads), do: %__MODULE__{queues: queues, queue: queue, payloads: payloads}

  @doc "The next event as it goes over the wire, and the stream after it."
  @spec next(t()) :: {iodata(), t()}
  def next(%__MODULE__{} = events) do
    snapshot = events.queue && Snapshot.take(events.queue)
    {dead, dead_seen} = dead(events, snapshot)

    fields = [
      node: node(),
      at_ms: System.system_time(:millisecond),
      queues: events.queues |> Snapshot.queues() |> Snapshot.overview() |> Enum.map(&row/1),
      queue: snapshot && detail(snapshot, events.previous),
      dead: dead
    ]

    {["data: ", JSON.encode!(fields), "\n\n"], %{events | previous: snapshot, dead_seen: dead_seen}}
  end

  defp row(%{queue: queue} = row), do: row |> Map.delete(:queue) |> Map.merge(names(queue))

  defp names(queue), do: %{id: Atom.to_string(queue), label: Snapshot.label(queue)}

  defp detail(snapshot, previous) do
    names(snapshot.queue)
    |> Map.merge(%{
      info: Map.drop(snapshot.info, @settings),
      settings: Map.take(snapshot.info, @settings),
      taken: Snapshot.taken(snapshot.info),
      workers: snapshot.workers,
      change: previous && previous |> Snapshot.change(snapshot) |> rounded()
    })
  end

  defp rounded(change),
    do: Map.new(change, fn {key, value} -> {key, if(is_float(value), do: Float.round(value, 1), else: value)} end)

  defp dead(_events, nil), do: {nil, nil}
  # Nobody knows. The page keeps what it shows.
  defp dead(events, %{info: %{dead: nil}}), do: {nil, events.dead_seen}

  defp dead(events, %{queue: queue, info: %{dead: dead, dead_dropped: dropped}}) do
    case events.dead_seen do
      {^dead, ^dropped, left} when left > 0 -> {nil, {dead, dropped, left - 1}}
      _ when dead == 0 -> {[], {dead, dropped, @dead_every}}
      _ -> {letters(queue, events.payloads), {dead, dropped, @dead_every}}
    end
  end

  defp letters(queue, payloads) do
    for letter <- Snapshot.dead_letters(queue, @dead_shown, payloads) do
      %{letter | died_at: DateTime.to_iso8601(letter.died_at)}
    end
  end
end
