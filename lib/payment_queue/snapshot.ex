defmodule PaymentQueue.Snapshot do
  @moduledoc false
  # One look at a queue, and what happened between two looks: the content of the dashboard, of `mix payment_queue.top` and
  # of the LiveDashboard page. Nothing is kept in between, so nobody pays for rates that nobody looks at.

  alias PaymentQueue.{Histogram, Native, Nats, Options, Workers}

  @counters [:enqueued, :settled, :redelivered, :rejected_full]

  # What only a server knows, where it does not answer.
  @unanswered %{
    state: :offline,
    queue_size: nil,
    in_flight: nil,
    scheduled: nil,
    bytes: nil,
    oldest_ms: nil,
    dead: nil,
    dead_dropped: nil
  }
  # What nobody counts for a queue in NATS.
  @uncounted %{consumers: nil, memory: nil, wait_us: nil, handler_us: nil}

  @typedoc """
  `info`: with the keys of every queue; nil for what is not known of one in NATS, whose state is `:offline` if the servers do
  not answer. `waits` and `holds`: nil for one in NATS.
  """
  @type t :: %{
          queue: PaymentQueue.queue(),
          at_us: integer(),
          info: map(),
          waits: Histogram.t() | nil,
          holds: Histogram.t() | nil,
          workers: Workers.Pool.workers() | nil
        }

  @typedoc "Items per second, and percentiles of the items that were taken and of the leases that ended in between."
  @type change :: %{
          enqueued: float(),
          settled: float(),
          redelivered: float(),
          rejected_full: float(),
          wait_us: Histogram.percentiles() | nil,
          handler_us: Histogram.percentiles() | nil
        }

  @type row :: %{
          queue: PaymentQueue.queue(),
          state: atom(),
          queue_size: non_neg_integer() | nil,
          in_flight: non_neg_integer() | nil,
          capacity: pos_integer()
        }

  @doc "All about one queue, or nil if it was never started."
  @spec take(PaymentQueue.queue()) :: t() | nil
  def take(queue) do
    at_us = System.monotonic_time(:microsecond)

    with {info, waits, holds} <- read(queue),
         do: %{queue: queue, at_us: at_us, info: info, waits: waits, holds: holds, workers: workers(queue)}
  end

  defp read(queue) do
    with %{} = info <- Native.info(queue), {waits, holds} <- Native.histograms(queue) do
      {info, waits, holds}
    else
      {:error, :queue_unavailable} -> with %{} = info <- far(queue), do: {info, nil, nil}
    end
  end

  defp far(queue) do
    case Nats.report(queue) do
      %{connected: true} = info -> Map.merge(info, @uncounted)
      %{connected: false} = info -> info |> Map.merge(@uncounted) |> Map.merge(@unanswered)
      nil -> nil
    end
  end

  defp workers(queue) do
    with pid when is_pid(pid) <- PaymentQueue.Supervisor.pool(queue), do: Workers.Pool.workers(pid)
  end

  @doc "All queues of a node, which must have PaymentQueue. One call to it; raises `ErlangError` if it can't be reached."
  @spec all(node()) :: [t()]
  def all(node \\ node())
  def all(node) when node == node(), do: for(queue <- queues(:all), snapshot = take(queue), do: snapshot)
  def all(node), do: :erpc.call(node, __MODULE__, :all, [], 10_000)

  @doc "One line for each queue: atomic reads alone, so there may be many; one question to the servers for each in NATS."
  @spec overview([PaymentQueue.queue()]) :: [row()]
  def overview(queues), do: for(queue <- queues, row = row(queue, Native.stats(queue)), do: row)

  defp row(queue, %{queue_size: queue_size, in_flight: in_flight}) do
    %{
      queue: queue,
      state: Native.state(queue),
      queue_size: queue_size,
      in_flight: in_flight,
      capacity: queue |> Native.settings() |> Options.setting(:capacity)
    }
  end

  defp row(queue, {:error, :queue_unavailable}) do
    with %{} = info <- far(queue),
         do: info |> Map.take([:state, :queue_size, :in_flight, :capacity]) |> Map.put(:queue, queue)
  end

  @doc "Items that take up room of the capacity; nil where that is not known."
  @spec taken(map()) :: non_neg_integer() | nil
  def taken(%{queue_size: nil}), do: nil
  def taken(%{engine: :nats} = info), do: info.queue_size + info.in_flight
  def taken(info), do: info.queue_size + info.scheduled

  @doc "The same in percent."
  @spec full(map()) :: non_neg_integer() | nil
  def full(info), do: with(taken when taken != nil <- taken(info), do: round(100 * taken / info.capacity))

  @doc "What happened between two snapshots of a queue."
  @spec change(t(), t()) :: change()
  def change(earlier, later) do
    seconds = max(later.at_us - earlier.at_us, 1) / 1_000_000
    rates = Map.new(@counters, &{&1, (later.info[&1] - earlier.info[&1]) / seconds})

    Map.merge(rates, %{
      wait_us: percentiles(earlier.waits, later.waits),
      handler_us: percentiles(earlier.holds, later.holds)
    })
  end

  defp percentiles(nil, nil), do: nil
  defp percentiles(earlier, later), do: earlier |> Histogram.between(later) |> Histogram.percentiles()

  @doc """
  The first `n` dead letters as people may see them: the reason reduced to its shape, and the payload, in short, only if it
  is asked for.
  """
  @spec dead_letters(PaymentQueue.queue(), non_neg_integer(), boolean()) :: [
          %{reason: String.t(), attempts: pos_integer(), died_at: DateTime.t(), payload: String.t() | nil}
        ]
  def dead_letters(queue, n, payloads? \\ false) do
    for %{payload: payload} = letter <- PaymentQueue.dead_letters(queue, n) do
      reason = letter.reason |> PaymentQueue.Reason.describe([payload]) |> first_line()
      shown = if payloads?, do: inspect(payload, limit: 20, printable_limit: 200)
      %{reason: reason, attempts: letter.attempts, died_at: letter.died_at, payload: shown}
    end
  end

  defp first_line(text), do: text |> String.split("\n", parts: 2) |> hd()

  @doc "The queues to show: the ones asked for, or all there are, in the order of their names."
  @spec queues(:all | [PaymentQueue.queue()]) :: [PaymentQueue.queue()]
  def queues(:all), do: sort(PaymentQueue.queues())
  def queues(names), do: names

  @doc "In the order of their names."
  @spec sort([PaymentQueue.queue()]) :: [PaymentQueue.queue()]
  def sort(names), do: Enum.sort_by(names, &String.downcase(label(&1)))

  @doc "A queue's name for people, two names never with the same text: `payments`, `MyApp.Queue`, and `:Foo` beside `Foo`."
  @spec label(PaymentQueue.queue()) :: String.t()
  def label(queue) do
    case inspect(queue) do
      <<":", letter, _::binary>> = shown when letter in ?A..?Z -> shown
      ":" <> _ -> Atom.to_string(queue)
      alias -> alias
    end
  end
end
