defmodule PaymentQueue.Bench.NativeAdapter do
  @moduledoc "PaymentQueue through its public API, as an application calls it: parked takers, leases, settled items."

  @behaviour PaymentQueue.Bench.Adapter

  alias PaymentQueue.Bench.Adapter

  @queue :bench
  # The deepest cell's items must never meet the bound on bytes: only `capacity` is compared here.
  @max_bytes 4 * 1024 * 1024 * 1024

  @impl Adapter
  def name, do: "native"

  @impl Adapter
  def start(capacity) do
    {:ok, _supervisor} = PaymentQueue.start_link(name: @queue, capacity: capacity, max_bytes: @max_bytes)
    @queue
  end

  @impl Adapter
  def start_bounded(capacity), do: start(capacity)

  @impl Adapter
  def bounded?, do: true

  @impl Adapter
  def stop(queue), do: queue |> PaymentQueue.Supervisor.name() |> Supervisor.stop()

  @impl Adapter
  def put(queue, payload), do: PaymentQueue.enqueue(payload, queue: queue)

  @impl Adapter
  def put_many(queue, payloads) do
    case PaymentQueue.enqueue_many(payloads, queue: queue) do
      {:ok, accepted} -> accepted
      {:error, :queue_full, accepted} -> accepted
    end
  end

  @impl Adapter
  def take(queue, nil), do: taken(PaymentQueue.take(queue: queue, timeout: :infinity))
  def take(queue, last), do: taken(PaymentQueue.take(queue: queue, ack: last, timeout: :infinity))

  @impl Adapter
  def take_once(queue, nil) do
    {:ok, payload, _wait_ms} = PaymentQueue.dequeue(queue: queue, timeout: :infinity)
    {payload, nil}
  end

  @impl Adapter
  def take_many(queue, n, last) do
    :ok = PaymentQueue.ack_many(last)
    n |> PaymentQueue.take_many(queue: queue, timeout: :infinity) |> Enum.unzip()
  end

  @impl Adapter
  def settle(_queue, nil), do: :ok
  def settle(_queue, lease), do: PaymentQueue.ack(lease)

  @impl Adapter
  defdelegate stats(queue), to: PaymentQueue

  @impl Adapter
  def waiting?(queue), do: PaymentQueue.info(queue).parked == 1

  @impl Adapter
  def bytes(queue), do: PaymentQueue.info(queue).memory

  defp taken({:ok, payload, lease}), do: {payload, lease}
end
