defmodule PaymentQueue.Bench.GenServerAdapter do
  @moduledoc "The first replaced queue, in the form that casts and has no capacity; bounded, in the form that calls."

  @behaviour PaymentQueue.Bench.Adapter

  alias PaymentQueue.Baseline.GenServerQueue
  alias PaymentQueue.Bench.{Adapter, Polling}

  @impl Adapter
  def name, do: "genserver"

  @impl Adapter
  def start(_capacity) do
    {:ok, _pid} = GenServerQueue.start_link()
    GenServerQueue
  end

  @impl Adapter
  def start_bounded(capacity) do
    {:ok, _pid} = GenServerQueue.start_link(capacity: capacity)
    GenServerQueue
  end

  @impl Adapter
  def bounded?, do: false

  @impl Adapter
  defdelegate stop(handle), to: GenServerQueue

  @impl Adapter
  def put(handle, payload), do: GenServerQueue.enqueue(payload, handle)

  @impl Adapter
  def put_many(handle, payloads), do: Polling.put_many(GenServerQueue, handle, payloads)

  @impl Adapter
  def take(handle, _last), do: Polling.take(GenServerQueue, handle)

  @impl Adapter
  def take_once(handle, nil), do: Polling.take(GenServerQueue, handle)

  @impl Adapter
  def take_many(handle, n, _last), do: Polling.take_many(GenServerQueue, handle, n)

  @impl Adapter
  def settle(_handle, nil), do: :ok

  @impl Adapter
  defdelegate stats(handle), to: GenServerQueue

  @impl Adapter
  def waiting?(_handle), do: true

  @impl Adapter
  def bytes(handle) do
    # The call comes back when the mailbox before it is in the queue. Garbage that is not yet collected counts: the process
    # holds it, and the growth of the VM agrees.
    _ = GenServerQueue.stats(handle)
    {:memory, bytes} = Process.info(Process.whereis(handle), :memory)
    bytes + :erlang.memory(:binary)
  end
end
