defmodule PaymentQueue.Bench.LoadServer do
  @moduledoc """
  The HTTP server of `examples/payments_api` over any of the queues, with workers that count: what runs in the VM under load.

  For the server it is the module with the queue. Accepted and handled payments are counted, and their tickets summed: each
  payment has another ticket, so equal numbers and sums mean that each was handled once.
  """

  @compile {:no_warn_undefined, [PaymentsApi.Http, PaymentsApi.Meter, PaymentsApi.Histogram]}

  alias PaymentsApi.{Histogram, Http, Meter}

  @accepted 1
  @accepted_sum 2
  @handled 3
  @handled_sum 4

  @type settings :: %{capacity: pos_integer(), workers: pos_integer(), work_ms: non_neg_integer()}
  @type count :: {number :: non_neg_integer(), sum_of_tickets :: integer()}

  @doc "Starts queue (`nil`: none), workers and server; the port and this VM's process id. They live as long as the VM."
  @spec start(module() | nil, settings()) :: {:inet.port_number(), os_pid :: String.t()}
  def start(adapter, settings) do
    {:ok, _} = Application.ensure_all_started(:mochiweb)
    {:ok, _} = Application.ensure_all_started(:jiffy)
    Meter.reset()
    caller = self()

    # The caller goes when it has its answer; what it started must not.
    spawn(fn ->
      counts = :counters.new(4, [:write_concurrency])
      :persistent_term.put(__MODULE__, Map.merge(queue(adapter, settings, counts), %{counts: counts}))
      {:ok, _} = Http.start_link(queue: __MODULE__, port: 0)
      send(caller, {__MODULE__, Http.port()})
      Process.sleep(:infinity)
    end)

    receive do
      {__MODULE__, port} -> {port, System.pid()}
    end
  end

  # Nothing to put it into: a payment is handled as soon as it is accepted.
  defp queue(nil, _settings, counts) do
    %{
      put: fn nil, payment -> count(counts, @handled, payment) end,
      handle: nil,
      stats: fn -> %{queue_size: 0, in_flight: 0} end
    }
  end

  defp queue(adapter, settings, counts) do
    # The saturated form needs the bound; else each queue is started as it was used.
    handle =
      if settings.work_ms > 0, do: adapter.start_bounded(settings.capacity), else: adapter.start(settings.capacity)

    for _ <- 1..settings.workers, do: spawn_link(fn -> work(adapter, handle, nil, counts, settings.work_ms) end)
    %{put: &adapter.put/2, handle: handle, stats: fn -> adapter.stats(handle) end}
  end

  defp work(adapter, handle, last, counts, work_ms) do
    {payment, lease} = adapter.take(handle, last)
    if work_ms > 0, do: Process.sleep(work_ms)
    :ok = count(counts, @handled, payment)
    work(adapter, handle, lease, counts, work_ms)
  end

  @doc "What the router calls for each payment."
  @spec enqueue(map()) :: :ok | {:error, atom()}
  def enqueue(payment) do
    %{put: put, handle: handle, counts: counts} = :persistent_term.get(__MODULE__)
    with :ok <- put.(handle, payment), do: count(counts, @accepted, payment)
  end

  @doc "What `GET /health` shows."
  @spec stats() :: %{queue_size: non_neg_integer(), in_flight: non_neg_integer()}
  def stats, do: :persistent_term.get(__MODULE__).stats.()

  @doc "Waits until all requests are answered and all accepted payments are handled, or `timeout` ms; what was counted."
  @spec finish(timeout :: pos_integer()) :: %{accepted: count(), handled: count(), p50_us: number(), p99_us: number()}
  def finish(timeout) do
    Http.await_answered(timeout)
    counts = :persistent_term.get(__MODULE__).counts
    await_handled(counts, System.monotonic_time(:millisecond) + timeout)
    latencies = Meter.latencies()

    %{
      accepted: {:counters.get(counts, @accepted), :counters.get(counts, @accepted_sum)},
      handled: {:counters.get(counts, @handled), :counters.get(counts, @handled_sum)},
      p50_us: Histogram.percentile(latencies, 50),
      p99_us: Histogram.percentile(latencies, 99)
    }
  end

  defp await_handled(counts, deadline) do
    missing = :counters.get(counts, @accepted) - :counters.get(counts, @handled)

    unless missing == 0 or System.monotonic_time(:millisecond) > deadline do
      Process.sleep(5)
      await_handled(counts, deadline)
    end
  end

  defp count(counts, index, payment) do
    :counters.add(counts, index, 1)
    :counters.add(counts, index + 1, payment.ticket)
  end
end
