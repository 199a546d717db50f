defmodule PaymentQueue.Soak.Operator do
  @moduledoc "Does the steps of a `PaymentQueue.Soak.Program` to a line, and looks at the bound after each."

  alias PaymentQueue.Soak.{Kind, Ledger, Line, Payload, Program, Waiting}

  # What may be accepted and not yet written down: as many as one call of each caller.
  @most_in_calls 3 * 40
  @most_consumers 16
  # A VM may be stopped meanwhile.
  @flush_ms 600_000

  @doc "Works until the moment is there; returns the line and where the program goes on."
  @spec work(Line.t(), Program.state(), integer()) :: {Line.t(), Program.state()}
  def work(line, program, until) do
    if Waiting.now() >= until do
      {line, program}
    else
      {step, program} = Program.next(program)
      Ledger.count(line.ledger, :steps)
      line |> step(step) |> Line.bury() |> bounded() |> work(program, until)
    end
  end

  # --- the bound -----------------------------------------------------------------------------------------------------

  # Of the ledger's numbers, so with the slack of what nobody has written down yet: items in the hands of callers and
  # consumers, and of those who were killed with them. The quiet points check the bound without slack.
  defp bounded(line) do
    Ledger.bound(line.ledger, line.ceiling, slack(line))
    if Ledger.fresh(line.ledger) <= line.capacity, do: %{line | ceiling: line.capacity}, else: line
  end

  defp slack(line),
    do: @most_in_calls + Kind.batch(line.kind) * (2 * @most_consumers + Ledger.counted(line.ledger, :kills))

  # --- the steps -----------------------------------------------------------------------------------------------------

  defp step(line, {:wait, ms}), do: pass(line, ms)
  defp step(line, {:kill, :consumers, n}), do: Line.kill_consumers(line, n)
  defp step(line, {:kill, :callers, n}), do: Line.kill_callers(line, n)
  defp step(line, {:kill, :tree}), do: Line.kill_tree(line)
  defp step(line, {:kill, :pool}), do: Line.kill_pool(line)
  defp step(line, {:scale, n}), do: Line.scale(line, n)
  defp step(line, :restart), do: Line.restart(line)

  defp step(line, {:look, what}) do
    Ledger.count(line.ledger, :looks)
    look(what, line)
    line
  end

  defp step(line, {:configure, options}) do
    capacity = Keyword.get(options, :capacity, line.capacity)
    {rate, _ms} = options[:rate_limit] || {0, 1}
    line = %{line | ceiling: max(line.ceiling, capacity), rate: max(line.rate, rate)}
    expect(line, :ok, PaymentQueue.configure(line.queue, options))
    %{line | capacity: capacity}
  end

  defp step(line, {:pause, ms}) do
    expect(line, :ok, PaymentQueue.pause(line.queue))
    pass(line, ms)
    expect(line, :ok, PaymentQueue.resume(line.queue))
    line
  end

  defp step(line, {:drain, ms, then}) do
    answer = PaymentQueue.drain(line.queue, timeout: ms)
    unless answer in [:ok, {:error, :timeout}], do: expect(line, :ok, answer)
    if then == :restart, do: Line.restart(line), else: resume(line)
  end

  defp step(line, :purge) do
    # Before: keys are free, and may be taken again, while the call has not answered yet.
    Ledger.count(line.ledger, :purges)
    {:ok, n} = PaymentQueue.purge(line.queue)
    Ledger.count(line.ledger, :purged, n)
    line
  end

  defp step(line, {:requeue_dead, n}) do
    {:ok, n} = PaymentQueue.requeue_dead(line.queue, n)
    Ledger.count(line.ledger, :requeued, n)
    line
  end

  # Not with keys or partitions: what is taken and settled in one call is written down after the next of its key or partition may
  # have gone in or out.
  defp step(line, {:dequeue, n}) do
    n = if Enum.any?([:key, :partition], &(&1 in line.kind.items)), do: 0, else: n
    for _ <- 1..n//1, {:ok, payload, _wait} <- [PaymentQueue.dequeue(queue: line.queue)], do: dequeued(line, payload)
    line
  end

  defp dequeued(line, payload) do
    case Payload.read(payload) do
      {:ok, id} -> Ledger.settled(line.ledger, id, Ledger.deliver(line.ledger, id))
      :damaged -> Line.violate(line, :damaged, "came out as #{inspect(payload, limit: 20, printable_limit: 40)}")
    end
  end

  defp pass(line, ms) do
    Waiting.pass(ms)
    line
  end

  defp resume(line) do
    expect(line, :ok, PaymentQueue.resume(line.queue))
    line
  end

  # --- looking -------------------------------------------------------------------------------------------------------

  defp look(:stats, line), do: %{queue_size: _, in_flight: _} = PaymentQueue.stats(line.queue)
  defp look(:info, line), do: %{enqueued: _} = PaymentQueue.info(line.queue)

  defp look(:health, line),
    do: {_status, _headers, _body} = PaymentQueue.Health.response(queue: line.queue, max_oldest_ms: 1_000)

  defp look(:prometheus, _line), do: PaymentQueue.Prometheus.text() |> IO.iodata_length()
  defp look(:snapshot, line), do: PaymentQueue.Snapshot.take(line.queue)
  defp look(:queues, line), do: true = line.queue in PaymentQueue.queues()

  defp look(:peek, line) do
    for payload <- PaymentQueue.peek(20, line.queue),
        Payload.read(payload) == :damaged,
        do: Line.violate(line, :damaged, "peek/2 shows #{inspect(payload, limit: 20, printable_limit: 40)}")
  end

  defp look(:dead_letters, line) do
    for %{payload: payload} <- PaymentQueue.dead_letters(line.queue, 20),
        Payload.read(payload) == :damaged,
        do: Line.violate(line, :damaged, "dead_letters/2 shows #{inspect(payload, limit: 20, printable_limit: 40)}")
  end

  defp look(:flush, line), do: expect(line, :ok, PaymentQueue.flush(line.queue, timeout: @flush_ms))

  defp expect(_line, answer, answer), do: :ok
  defp expect(line, wanted, answer), do: Line.violate(line, :answer, "#{inspect(answer)} instead of #{inspect(wanted)}")
end
