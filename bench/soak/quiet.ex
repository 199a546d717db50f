defmodule PaymentQueue.Soak.Quiet do
  @moduledoc """
  A quiet point of one line: nobody enqueues, nobody is killed, and the queue comes to rest with its first settings. Then its
  room is filled to the brim once, without slack, it comes to rest again, and the `PaymentQueue.Soak.Audit` compares it with the
  ledger.
  """

  alias PaymentQueue.Soak.{Audit, Caller, Kind, Ledger, Line, Payload, Place, Recovery, Waiting}

  @typedoc "`counts`: of the ledger since the last quiet point; `reopened`: whether a copy of its directory was looked at."
  @type findings :: %{
          kind: atom(),
          counts: map(),
          changes: %{atom() => integer()},
          memory: non_neg_integer(),
          disk: non_neg_integer(),
          reopened: boolean(),
          rest_ms: non_neg_integer(),
          violations: [Ledger.violation()]
        }

  # Two minutes, in which a VM that somebody stops for a while does not come to its deadline.
  @looks 12_000
  @look_ms 10

  # The disk's, for which such a time counts.
  @flush_ms 600_000

  @changing [:enqueued, :settled, :redelivered, :rejected_full, :dead, :dead_dropped, :purged]

  @doc "What `rest/3` starts from."
  @spec start(Line.t()) :: map()
  def start(line), do: %{info: PaymentQueue.info(line.queue), at: Waiting.now(), point: 0}

  @doc "Options: `reopen: true` also opens a copy of a durable queue's directory in a VM of its own."
  @spec rest(Line.t(), map(), keyword()) :: {findings(), Line.t(), map()}
  def rest(line, last, options) do
    began = Waiting.now()
    line = settle_down(line)
    rest_ms = Waiting.now() - began
    {line, ids} = fill(line, last.point)
    reopen? = Keyword.get(options, :reopen, false) and Place.directory?(line.kind)
    if reopen?, do: Recovery.check(line, ids)
    line = settle_down(line)
    Line.confirm(line)
    now = check(line, last)
    findings = Map.merge(findings(line, last.info, now), %{reopened: reopen?, rest_ms: rest_ms})

    Ledger.turn(line.ledger, MapSet.new(dead(line)))
    {rate, _ms} = rate_limit(line)
    {findings, %{line | rate: rate}, %{info: now, at: Waiting.now(), point: last.point + 1}}
  end

  defp check(line, last) do
    :ok = PaymentQueue.flush(line.queue, timeout: @flush_ms)
    now = PaymentQueue.info(line.queue)
    Audit.run(line.ledger, %{before: last.info, now: now, dead: dead(line)})
    rate(line, Waiting.now() - last.at)
    consumers(line, now)
    written(line, now[:storage])
    now
  end

  defp findings(line, before, now) do
    %{
      kind: line.kind.name,
      counts: Ledger.counts(line.ledger),
      changes: Map.new(@changing, &{&1, now[&1] - before[&1]}),
      memory: now[:memory] || 0,
      disk: if(now[:storage], do: now.storage.disk_bytes, else: 0),
      violations: Ledger.violations(line.ledger)
    }
  end

  # --- coming to rest ------------------------------------------------------------------------------------------------

  defp settle_down(line) do
    # What a killed caller has left to the disk gets in now, if it does.
    :ok = PaymentQueue.flush(line.queue, timeout: @flush_ms)
    line |> Line.bury(false) |> restore() |> Line.scale_back() |> empty(@looks)
  end

  defp restore(line) do
    :ok = PaymentQueue.resume(line.queue)
    settings = Keyword.take(line.start, [:capacity, :max_bytes, :max_payload_bytes, :rate_limit])
    :ok = PaymentQueue.configure(line.queue, settings)
    %{line | capacity: settings[:capacity], ceiling: settings[:capacity]}
  end

  # Consumers may still die of what the last items do to them, and are replaced.
  defp empty(line, looks) do
    line = Line.bury(line, false)

    cond do
      empty?(PaymentQueue.info(line.queue)) ->
        line

      looks == 0 ->
        Line.violate(line, :rest, "not at rest after two minutes: #{inspect(PaymentQueue.info(line.queue))}")
        line

      true ->
        Waiting.pass(@look_ms)
        empty(line, looks - 1)
    end
  end

  # By the counters, which only grow: an item that changes its place between two looks would be seen in neither. And nothing in
  # flight: a lease that ends by a return is counted as ended when its item is in its new place, where another worker may have
  # taken and settled it before a thread that had to wait for the processor comes to count.
  defp empty?(info),
    do: info.in_flight == 0 and info.enqueued == info.settled + info.dead + info.dead_dropped + info.purged

  # --- the exact bound -----------------------------------------------------------------------------------------------

  # By items and by bytes in turn. Fewer than `room` would be a leak, more a broken bound.
  defp fill(line, point) do
    room = 20 + rem(point * 7, 60)
    size = 8 + rem(point * 131, 3_000)
    :ok = PaymentQueue.pause(line.queue)
    :ok = PaymentQueue.configure(line.queue, limit(line, point, room, size))
    {context, line} = Line.caller(line)
    ids = Caller.fill(context, room, size)
    Audit.full(line.ledger, room, length(ids), Place.untaken(line.kind, PaymentQueue.stats(line.queue)))
    {line, ids}
  end

  defp limit(line, point, room, size) do
    own = Place.own_bytes(line.kind)
    if own == nil or rem(point, 2) == 0, do: [capacity: room], else: [max_bytes: room * (size + own)]
  end

  # --- the ledger's other side ---------------------------------------------------------------------------------------

  defp dead(line) do
    letters = PaymentQueue.dead_letters(line.queue, Kind.option(line.kind, :max_dead) + 1)
    read = Enum.map(letters, &Payload.read(&1.payload))
    if :damaged in read, do: Line.violate(line, :damaged, "a dead letter came out otherwise than it went in")
    for {:ok, id} <- read, do: id
  end

  # In any window, so also in one as long as the time since the last quiet point. What changes of the limit have allowed
  # at most counts.
  defp rate(line, elapsed) do
    {n, ms} = rate_limit(line)
    delivered = Ledger.counted(line.ledger, :delivered)
    most = line.rate * (div(elapsed, ms) + 1)

    if n > 0 and delivered > most,
      do: Line.violate(line, :rate, "#{delivered} deliveries in #{elapsed} ms, allowed are #{most}")
  end

  defp rate_limit(line), do: line.start[:rate_limit] || {0, 1}

  # The queue monitors each process that takes from it. Who is dead has to be forgotten.
  defp consumers(line, %{consumers: known}) do
    # Beside the consumers of now: this process, which dequeues, and for a stage its producer and that one's holder.
    most = length(Line.consumers(line)) + 3

    if known > most,
      do: Line.violate(line, :monitors, "the queue knows #{known} consumers, #{most} at most live")
  end

  # In NATS a queue does not say.
  defp consumers(_line, _info), do: :ok

  defp written(_line, nil), do: :ok
  defp written(_line, %{state: :ok, unwritten: 0}), do: :ok

  defp written(line, storage),
    do: Line.violate(line, :storage, "flushed, and the disk has not got all: #{inspect(storage)}")
end
