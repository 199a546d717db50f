defmodule PaymentQueue.Bench.MessageAdapter do
  @moduledoc """
  No queue but a floor: a bare message to the one taker, which waits in `receive`. What the VM itself needs to wake a process
  and hand it a payload.
  """

  @behaviour PaymentQueue.Bench.Adapter

  alias PaymentQueue.Bench.Adapter

  @impl Adapter
  def name, do: "message"

  @impl Adapter
  def start(_capacity), do: __MODULE__

  @impl Adapter
  def start_bounded(capacity), do: start(capacity)

  @impl Adapter
  def bounded?, do: false

  @impl Adapter
  def stop(_handle), do: :ok

  # The taker registers itself before it waits.
  @impl Adapter
  def put(taker, payload) do
    case Process.whereis(taker) do
      nil ->
        :erlang.yield()
        put(taker, payload)

      pid ->
        send(pid, {__MODULE__, payload})
        :ok
    end
  end

  @impl Adapter
  def put_many(taker, payloads) do
    Enum.each(payloads, &put(taker, &1))
    length(payloads)
  end

  @impl Adapter
  def take(taker, last) do
    if last == nil, do: Process.register(self(), taker)

    receive do
      {__MODULE__, payload} -> {payload, :taken}
    end
  end

  @impl Adapter
  def take_once(taker, nil) do
    {payload, :taken} = take(taker, :taken)
    {payload, nil}
  end

  @impl Adapter
  def take_many(taker, _n, last) do
    {payload, lease} = take(taker, List.first(last))
    {[payload], [lease]}
  end

  @impl Adapter
  def settle(_taker, _lease), do: :ok

  @impl Adapter
  def stats(_taker), do: %{queue_size: 0, in_flight: 0}

  @impl Adapter
  def waiting?(taker) do
    pid = Process.whereis(taker)
    pid != nil and Process.info(pid, :status) == {:status, :waiting}
  end

  @impl Adapter
  def bytes(_taker), do: 0
end
