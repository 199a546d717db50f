defmodule PaymentQueue.Bench.Steps do
  @moduledoc """
  What the steps of an enqueue and of a take cost, by one process, with the 2-field map.

  Seen from outside: a step is the difference of two calls of which one leaves it out, so small ones may come out a little
  below zero. The native queue keeps a binary as it is: what a map costs more than a binary of the length to which it is
  encoded is the encoding. The steps of a queue add up to its whole call. Where a queue has no such step there is no number.
  """

  alias PaymentQueue.{Baseline, Native}
  alias PaymentQueue.Bench.{Cell, EtsAdapter, Floors, GenServerAdapter, NativeAdapter, Payload, Statistics, WrongResult}

  @batch 500
  @capacity 100_000
  @rows [
    "enqueue: validate, dispatch",
    "enqueue: NIF call",
    "enqueue: encode",
    "enqueue: reserve, push, count",
    "enqueue: until its process has it",
    "enqueue: whole",
    "enqueue: wake a parked taker, in addition",
    "take: validate, dispatch",
    "take: NIF call",
    "take: pop, lease",
    "take: decode",
    "take: whole",
    "settle by itself",
    "settle and take in one call"
  ]

  @doc "A cell whose samples are medians of so many batches."
  @spec cell(batches :: pos_integer()) :: Cell.t()
  def cell(batches) do
    %Cell{
      name: "steps",
      table: :steps,
      rows: for(name <- @rows, do: Cell.row(name, "ns", :lower)),
      prepare: fn adapter -> measure(adapter, 2) end,
      measure: fn adapter, _warm_up -> measure(adapter, batches) end,
      floor: %{name: "encode or decode + NIF call", measure: fn -> bare(batches) end}
    }
  end

  defp measure(adapter, batches) do
    handle = adapter.start(@capacity)
    numbers = steps(adapter, handle, batches)
    WrongResult.check_drained!("steps, #{adapter.name()}", adapter, handle)
    adapter.stop(handle)
    Enum.map(@rows, &numbers[&1])
  end

  defp bare(batches) do
    calls = batches * @batch
    enqueue = Floors.nanoseconds(Floors.encode_loop(:map), calls)
    take = Floors.nanoseconds(Floors.decode_loop(:map), calls)
    for name <- @rows, do: %{"enqueue: whole" => enqueue, "take: whole" => take}[name]
  end

  # --- native ---------------------------------------------------------------------------------------------------------

  defp steps(NativeAdapter, queue, batches) do
    map = Payload.build(:map, 1)
    bytes = :binary.copy(<<1>>, encoded_size(queue, map))
    nif = median(batches, fn -> per_call(&Floors.nif/0) end)

    {api_in, api_out} = in_and_out(batches, queue, fn -> PaymentQueue.enqueue(map, queue: queue) end, &api_take/1)
    {map_in, map_out} = in_and_out(batches, queue, fn -> Native.enqueue(queue, map) end, &Native.take/1)
    {bytes_in, bytes_out} = in_and_out(batches, queue, fn -> Native.enqueue(queue, bytes) end, &Native.take/1)
    {settle, fused} = settling(batches, queue, map)

    %{
      "enqueue: validate, dispatch" => api_in - map_in,
      "enqueue: NIF call" => nif,
      "enqueue: encode" => map_in - bytes_in,
      "enqueue: reserve, push, count" => bytes_in - nif,
      "enqueue: whole" => api_in,
      "enqueue: wake a parked taker, in addition" => wake(queue, map, batches, api_in),
      "take: validate, dispatch" => api_out - map_out,
      "take: NIF call" => nif,
      "take: pop, lease" => bytes_out - nif,
      "take: decode" => map_out - bytes_out,
      "take: whole" => api_out,
      "settle by itself" => settle,
      "settle and take in one call" => fused
    }
  end

  # --- the replaced queues --------------------------------------------------------------------------------------------

  defp steps(EtsAdapter, queue, batches) do
    map = Payload.build(:map, 1)
    room = median(batches, fn -> per_call(fn -> Baseline.EtsQueue.room?(queue) end) end)
    {whole, take} = baseline_in_and_out(batches, Baseline.EtsQueue, queue, map)

    %{
      "enqueue: validate, dispatch" => room,
      "enqueue: reserve, push, count" => whole - room,
      "enqueue: whole" => whole,
      "take: pop, lease" => take,
      "take: whole" => take
    }
  end

  defp steps(GenServerAdapter, queue, batches) do
    map = Payload.build(:map, 1)
    {cast, take} = baseline_in_and_out(batches, Baseline.GenServerQueue, queue, map)

    queued =
      median(batches, fn ->
        ns =
          timed(fn ->
            repeat(@batch, fn -> Baseline.GenServerQueue.enqueue(map, queue) end)
            Baseline.GenServerQueue.stats(queue)
          end)

        repeat(@batch, fn -> {:ok, ^map, _wait} = Baseline.GenServerQueue.take(queue) end)
        ns / @batch
      end)

    %{
      "enqueue: reserve, push, count" => cast,
      "enqueue: until its process has it" => queued - cast,
      "enqueue: whole" => queued,
      "take: pop, lease" => take,
      "take: whole" => take
    }
  end

  # --- measuring ------------------------------------------------------------------------------------------------------

  defp baseline_in_and_out(batches, module, queue, map) do
    batches
    |> samples(fn ->
      enqueue = per_call(fn -> :ok = module.enqueue(map, queue) end)
      # A cast is on its way: the take must not wait for it.
      module.stats(queue)
      {enqueue, per_call(fn -> {:ok, ^map, _wait} = module.take(queue) end)}
    end)
    |> medians()
  end

  defp in_and_out(batches, queue, enqueue, take) do
    batches
    |> samples(fn ->
      enqueue_ns = per_call(fn -> :ok = enqueue.() end)
      {leases, take_ns} = collect(@batch, fn -> take.(queue) end)
      Enum.each(leases, fn {:ok, _payload, lease} -> :ok = PaymentQueue.ack(lease) end)
      {enqueue_ns, take_ns}
    end)
    |> medians()
  end

  defp settling(batches, queue, map) do
    batches
    |> samples(fn ->
      repeat(2 * @batch, fn -> :ok = Native.enqueue(queue, map) end)
      {taken, _ns} = collect(@batch, fn -> Native.take(queue) end)
      leases = for {:ok, _payload, lease} <- taken, do: lease
      settle = timed(fn -> Enum.each(leases, &PaymentQueue.ack/1) end) / @batch

      {:ok, ^map, first} = api_take(queue)
      fused_calls = @batch - 1
      started = now()
      last = chain(queue, first, fused_calls)
      fused = (now() - started) / fused_calls
      :ok = PaymentQueue.ack(last)
      {settle, fused}
    end)
    |> medians()
  end

  defp chain(_queue, lease, 0), do: lease

  defp chain(queue, lease, calls) do
    {:ok, _payload, next} = PaymentQueue.take(queue: queue, ack: lease)
    chain(queue, next, calls - 1)
  end

  # Each by itself, for a taker must be parked before each; the time of reading the clock is taken off.
  defp wake(queue, map, batches, enqueue) do
    {taker, monitor} = spawn_monitor(fn -> take_forever(queue) end)

    samples =
      for _ <- 1..(10 * batches) do
        await_parked(queue)
        started = now()
        :ok = PaymentQueue.enqueue(map, queue: queue)
        now() - started
      end

    await_parked(queue)
    Process.exit(taker, :kill)

    receive do
      {:DOWN, ^monitor, :process, ^taker, :killed} -> :ok
    end

    clock = median(batches, fn -> per_call(&now/0) end)
    Statistics.median(samples) - clock - enqueue
  end

  defp take_forever(queue) do
    {:ok, _payload, lease} = PaymentQueue.take(queue: queue, timeout: :infinity)
    :ok = PaymentQueue.ack(lease)
    take_forever(queue)
  end

  defp await_parked(queue) do
    unless PaymentQueue.info(queue).parked == 1 do
      :erlang.yield()
      await_parked(queue)
    end
  end

  defp encoded_size(queue, map) do
    :ok = PaymentQueue.enqueue(map, queue: queue)
    %{bytes: bytes} = PaymentQueue.info(queue)
    {:ok, ^map, lease} = PaymentQueue.take(queue: queue)
    :ok = PaymentQueue.ack(lease)
    bytes
  end

  defp api_take(queue), do: PaymentQueue.take(queue: queue)

  defp median(batches, function), do: batches |> samples(function) |> Statistics.median()

  defp samples(batches, function), do: for(_ <- 1..batches, do: function.())

  defp medians(pairs) do
    {first, second} = Enum.unzip(pairs)
    {Statistics.median(first), Statistics.median(second)}
  end

  # What an empty loop of the same form costs is no part of the call.
  defp per_call(function) do
    (timed(fn -> repeat(@batch, function) end) - timed(fn -> repeat(@batch, fn -> :ok end) end)) / @batch
  end

  defp collect(calls, function) do
    empty = timed(fn -> gather(calls, fn -> :ok end, []) end)
    started = now()
    results = gather(calls, function, [])
    {results, (now() - started - empty) / calls}
  end

  defp gather(0, _function, results), do: results
  defp gather(calls, function, results), do: gather(calls - 1, function, [function.() | results])

  defp repeat(0, _function), do: :ok

  defp repeat(calls, function) do
    function.()
    repeat(calls - 1, function)
  end

  defp timed(function) do
    started = now()
    function.()
    now() - started
  end

  defp now, do: System.monotonic_time(:nanosecond)
end
