defmodule PaymentQueue.Bench.Loops do
  @moduledoc "What producers and workers of the benches do, the same for every queue."

  alias PaymentQueue.Bench.{Adapter, Payload, Tally}

  @type ids :: %{first: Payload.id(), step: pos_integer(), stop: Payload.id()}

  @doc "The ids of one of `producers` producers, `per_producer` each: see `PaymentQueue.Bench.Payload`."
  @spec ids(number :: non_neg_integer(), producers :: pos_integer(), per_producer :: pos_integer()) :: ids()
  def ids(number, producers, per_producer) do
    %{first: number, step: producers, stop: number + producers * per_producer}
  end

  @doc "Puts one payload for each id, waiting for room where there is none."
  @spec produce(module(), Adapter.handle(), Adapter.payload(), ids(), batch :: pos_integer()) :: :ok
  def produce(adapter, handle, template, ids, 1) do
    produce_singly(&adapter.put/2, handle, template, ids.first, ids.step, ids.stop)
  end

  def produce(adapter, handle, template, ids, batch) do
    produce_batches(adapter, handle, template, batch * ids.step, ids, ids.first)
  end

  defp produce_singly(_put, _handle, _template, stop, _step, stop), do: :ok

  defp produce_singly(put, handle, template, id, step, stop) do
    Adapter.put_retrying(put, handle, Payload.with_id(template, id))
    produce_singly(put, handle, template, id + step, step, stop)
  end

  defp produce_batches(_adapter, _handle, _template, _stride, %{stop: stop}, stop), do: :ok

  defp produce_batches(adapter, handle, template, stride, ids, id) do
    next = min(id + stride, ids.stop)
    payloads = for n <- id..(next - 1)//ids.step, do: Payload.with_id(template, n)
    Adapter.put_many_retrying(adapter, handle, payloads)
    produce_batches(adapter, handle, template, stride, ids, next)
  end

  @doc "Takes with this function until a `:stop` comes; the tally and the lease of the stop."
  @spec work((Adapter.handle(), term() -> {Adapter.payload(), term()}), Adapter.handle(), Tally.t()) ::
          {Tally.t(), term()}
  def work(take, handle, tally), do: work(take, handle, nil, tally)

  defp work(take, handle, last, tally) do
    {payload, lease} = take.(handle, last)

    case Payload.id_of(payload) do
      :stop -> {tally, lease}
      id -> work(take, handle, lease, Tally.add(tally, id))
    end
  end

  @doc "Takes batches until one has a `:stop` in it, and settles them all."
  @spec work_in_batches(module(), Adapter.handle(), pos_integer(), Tally.t()) :: Tally.t()
  def work_in_batches(adapter, handle, batch, tally), do: work_in_batches(adapter, handle, batch, [], tally)

  defp work_in_batches(adapter, handle, batch, last, tally) do
    {payloads, leases} = adapter.take_many(handle, batch, last)
    {tally, stops} = tally_batch(payloads, tally, 0)

    if stops == 0 do
      work_in_batches(adapter, handle, batch, leases, tally)
    else
      Enum.each(leases, fn lease -> :ok = adapter.settle(handle, lease) end)
      # A batch may hold the other workers' stops too.
      for _ <- 2..stops//1, do: Adapter.put_retrying(&adapter.put/2, handle, :stop)
      tally
    end
  end

  defp tally_batch([], tally, stops), do: {tally, stops}

  defp tally_batch([payload | rest], tally, stops) do
    case Payload.id_of(payload) do
      :stop -> tally_batch(rest, tally, stops + 1)
      id -> tally_batch(rest, Tally.add(tally, id), stops)
    end
  end

  @doc "As many stops as there are workers, for behind the last item."
  @spec stop_workers(module(), Adapter.handle(), pos_integer()) :: :ok
  def stop_workers(adapter, handle, workers) do
    Enum.each(1..workers, fn _ -> Adapter.put_retrying(&adapter.put/2, handle, :stop) end)
  end
end
