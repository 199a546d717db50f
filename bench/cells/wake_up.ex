defmodule PaymentQueue.Bench.WakeUp do
  @moduledoc """
  How long a waiting taker takes to have the item: from just before the enqueue to the return of its take.

  Before each enqueue the taker says that it took the last item, a random pause of one to three milliseconds passes, so that
  no poll stays in step with the enqueues, and the taker must be waiting (parked, where the queue knows that). The enqueuing
  process then waits for the taker's word, as a handler that has answered leaves its scheduler.
  """

  alias PaymentQueue.Bench.{Cell, Goal, MessageAdapter, Payload, Statistics, WrongResult}

  @capacity 10_000
  @parked_within_ms 5_000

  @doc "A cell of so many wake-ups a sample."
  @spec cell(count :: pos_integer()) :: Cell.t()
  def cell(count) do
    %Cell{
      name: "wake-up",
      table: :wake_up,
      rows: [
        Cell.row("parked taker woken, median", "µs", :lower, goals: [Goal.at_most(10)]),
        Cell.row("parked taker woken, p99", "µs", :lower)
      ],
      prepare: fn adapter -> measure(adapter, 100) end,
      measure: fn adapter, _warm_up -> measure(adapter, count) end,
      floor: %{name: "a bare message", measure: fn -> measure(MessageAdapter, count) end}
    }
  end

  defp measure(adapter, count) do
    handle = adapter.start(@capacity)
    test = self()
    {taker, monitor} = spawn_monitor(fn -> take_and_tell(adapter, handle, nil, test) end)

    latencies = for id <- 1..count, do: wake_up(adapter, handle, id)

    :ok = adapter.put(handle, :stop)

    receive do
      {:DOWN, ^monitor, :process, ^taker, reason} ->
        WrongResult.check!("wake-up: the taker's end", :normal, reason)
    end

    WrongResult.check_drained!("wake-up, #{adapter.name()}", adapter, handle)
    adapter.stop(handle)
    [Statistics.median(latencies), Statistics.percentile(latencies, 99)]
  end

  defp wake_up(adapter, handle, id) do
    pause()
    await_waiting(adapter, handle, now_ms() + @parked_within_ms)

    payload = Payload.build(:map, id)
    started = System.monotonic_time()
    :ok = adapter.put(handle, payload)

    receive do
      {:taken, taken_id, at} ->
        WrongResult.check!("wake-up, #{adapter.name()}: the item", id, taken_id)
        System.convert_time_unit(at - started, :native, :nanosecond) / 1_000
    after
      @parked_within_ms -> raise WrongResult, "wake-up, #{adapter.name()}: item #{id} woke nobody"
    end
  end

  defp take_and_tell(adapter, handle, last, test) do
    {payload, lease} = adapter.take(handle, last)
    at = System.monotonic_time()

    case Payload.id_of(payload) do
      :stop ->
        :ok = adapter.settle(handle, lease)

      id ->
        send(test, {:taken, id, at})
        take_and_tell(adapter, handle, lease, test)
    end
  end

  # Timers tick in whole milliseconds for everybody, and a poll of one millisecond comes every second tick. So the pause must
  # be random both in ticks and, spent running, between two ticks.
  defp pause do
    receive do
    after
      :rand.uniform(2) -> spin_until(System.monotonic_time(:microsecond) + :rand.uniform(1_000))
    end
  end

  defp spin_until(time), do: if(System.monotonic_time(:microsecond) < time, do: spin_until(time))

  defp await_waiting(adapter, handle, deadline) do
    cond do
      adapter.waiting?(handle) ->
        :ok

      now_ms() > deadline ->
        raise WrongResult, "wake-up, #{adapter.name()}: the taker never waited"

      true ->
        :erlang.yield()
        await_waiting(adapter, handle, deadline)
    end
  end

  defp now_ms, do: System.monotonic_time(:millisecond)
end
