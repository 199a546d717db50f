defmodule PaymentQueue.Bench.EtsAdapter do
  @moduledoc "The second replaced queue: what the ratios are relative to."

  @behaviour PaymentQueue.Bench.Adapter

  alias PaymentQueue.Baseline.EtsQueue
  alias PaymentQueue.Bench.{Adapter, Polling}

  @impl Adapter
  def name, do: "ets"

  @impl Adapter
  def start(capacity) do
    {:ok, _pid} = EtsQueue.start_link(capacity: capacity)
    EtsQueue
  end

  @impl Adapter
  def start_bounded(capacity), do: start(capacity)

  @impl Adapter
  def bounded?, do: true

  @impl Adapter
  defdelegate stop(handle), to: EtsQueue

  @impl Adapter
  def put(handle, payload), do: EtsQueue.enqueue(payload, handle)

  @impl Adapter
  def put_many(handle, payloads), do: Polling.put_many(EtsQueue, handle, payloads)

  @impl Adapter
  def take(handle, _last), do: Polling.take(EtsQueue, handle)

  @impl Adapter
  def take_once(handle, nil), do: Polling.take(EtsQueue, handle)

  @impl Adapter
  def take_many(handle, n, _last), do: Polling.take_many(EtsQueue, handle, n)

  @impl Adapter
  def settle(_handle, nil), do: :ok

  @impl Adapter
  defdelegate stats(handle), to: EtsQueue

  @impl Adapter
  def waiting?(_handle), do: true

  @impl Adapter
  def bytes(handle), do: EtsQueue.table_bytes(handle) + :erlang.memory(:binary)
end
