defmodule PaymentQueue.Laws.ConservationTest do
  # Conservation: enqueued = settled + queued + in flight + scheduled + dead + dead_dropped + purged, whatever was killed.
  use PaymentQueue.QueueCase, async: true

  @items 6_000

  test "producers and takers killed at random: every item is somewhere, once" do
    queue = queue!(capacity: 50_000, max_attempts: 5, max_dead: 100)
    producers = for p <- 1..4, do: spawn(fn -> produce(queue, p, 1) end)
    takers = for _ <- 1..8, do: spawn(fn -> consume(queue, nil) end)
    storm(queue, takers, 300)
    Enum.each(producers, &kill/1)
    survivors = Stream.repeatedly(fn -> receive(do: ({:taker, pid} -> pid), after: (0 -> nil)) end)
    survivors |> Enum.take_while(& &1) |> Enum.concat(takers) |> Enum.each(&kill/1)

    eventually(fn -> PaymentQueue.stats(queue).in_flight == 0 end)
    info = assert_conserved(queue)
    assert info.enqueued > @items and info.redelivered > 0
    eventually(fn -> PaymentQueue.info(queue).scheduled == 0 end)
    left = take_all(queue)
    assert length(left) == info.queue_size + info.scheduled
    dead = Enum.map(PaymentQueue.dead_letters(queue, 100), & &1.payload)
    assert Enum.uniq(left ++ dead) == left ++ dead
  end

  # A killed taker is replaced, so that the pressure stays.
  defp storm(queue, takers, rounds) do
    if rounds > 0 or PaymentQueue.info(queue).enqueued <= @items do
      {victim, rest} = List.pop_at(takers, rem(max(rounds, 0), length(takers)))
      Process.exit(victim, :kill)
      test = self()

      new =
        spawn(fn ->
          send(test, {:taker, self()})
          consume(queue, nil)
        end)

      let_pass(1)
      storm(queue, rest ++ [new], rounds - 1)
    end
  end

  defp produce(queue, p, n) do
    case rem(n, 50) do
      0 -> PaymentQueue.enqueue_many(for(i <- 1..10, do: {p, n, i}), queue: queue)
      1 -> PaymentQueue.enqueue({p, n}, queue: queue, delay: 3)
      2 -> PaymentQueue.enqueue({p, n, :binary.copy("x", 70_000)}, queue: queue)
      _ -> PaymentQueue.enqueue({p, n}, queue: queue)
    end

    produce(queue, p, n + 1)
  end

  defp consume(queue, last) do
    opts = [queue: queue, timeout: Enum.random([0, 1, 2, :infinity])]

    case PaymentQueue.take(if last, do: [ack: last] ++ opts, else: opts) do
      {:ok, _, lease} ->
        case :rand.uniform(20) do
          1 -> PaymentQueue.nack(lease)
          2 -> PaymentQueue.nack(lease, delay: 2)
          3 -> PaymentQueue.reject(lease, :no)
          4 -> PaymentQueue.dequeue(queue: queue)
          5 -> PaymentQueue.take_many(3, queue: queue)
          6 -> exit(:kill_myself)
          _ -> :settle
        end
        |> then(&consume(queue, if(&1 == :settle, do: lease)))

      _ ->
        consume(queue, nil)
    end
  catch
    :exit, :kill_myself -> Process.exit(self(), :kill)
  end

  test "purge, drain, scale, dead letters and kills, all at once" do
    handler = fn n ->
      case rem(n, 7) do
        0 -> {:error, :down}
        1 -> {:cancel, :no}
        2 -> {:snooze, 1}
        3 -> Process.exit(self(), :kill)
        4 -> raise "no"
        _ -> :ok
      end
    end

    queue =
      queue!(
        handler: &snooze_once(handler, &1),
        concurrency: 4,
        backoff: [min: 0, max: 2],
        max_attempts: 3,
        max_dead: 20
      )

    producer = fn -> for n <- 1..400, do: PaymentQueue.enqueue(n, queue: queue) end

    operator = fn ->
      for n <- 1..60 do
        PaymentQueue.purge(queue)
        PaymentQueue.requeue_dead(queue, 5)
        PaymentQueue.scale(queue, rem(n, 5))
        PaymentQueue.pause(queue)
        PaymentQueue.drain(queue, timeout: 1)
        PaymentQueue.resume(queue)
      end
    end

    together([producer, producer, operator, producer])
    :ok = PaymentQueue.scale(queue, 0)
    eventually(fn -> PaymentQueue.stats(queue).in_flight == 0 end)
    {:ok, _} = PaymentQueue.purge(queue)
    assert_conserved(queue)
  end

  # Else it would snooze for ever.
  defp snooze_once(handler, n) do
    if Process.put({:snoozed, n}, true), do: :ok, else: handler.(n)
  end
end
