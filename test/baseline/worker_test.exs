defmodule PaymentQueue.Baseline.WorkerTest do
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog

  alias PaymentQueue.Baseline.{EtsQueue, GenServerQueue, Worker}

  for queue <- [GenServerQueue, EtsQueue] do
    describe "#{inspect(queue)}:" do
      @describetag queue: queue

      setup :start_queue

      test "workers handle every item once", %{queue: queue, name: name} do
        start_workers(queue, name, 4)
        for n <- 1..1_000, do: :ok = queue.enqueue(n, name)

        handled =
          for _ <- 1..1_000 do
            assert_receive {:handling, item, loop}
            send(loop, {:answer, :ok})
            item
          end

        assert Enum.sort(handled) == Enum.to_list(1..1_000)
        assert queue.stats(name).queue_size == 0
      end

      test "in_flight counts the loops, busy or not, and none after the end", %{queue: queue, name: name} do
        start_workers(queue, name, 3)
        assert queue.stats(name).in_flight == 3
        stop_supervised!(Worker)
        assert queue.stats(name).in_flight == 0
      end

      test "custody is broken: the item of a killed worker is lost", %{queue: queue, name: name} do
        pool = start_workers(queue, name, 1)
        :ok = queue.enqueue(:lost, name)
        assert_receive {:handling, :lost, loop}

        log =
          capture_log(fn ->
            monitor = Process.monitor(loop)
            Process.exit(loop, :kill)
            assert_receive {:DOWN, ^monitor, :process, ^loop, :killed}

            # The next loop is at work: had the item come back, to the head or the tail, it would be handled before the marker.
            :ok = queue.enqueue(:marker, name)
            assert_receive {:handling, :marker, successor}
            assert [^successor] = Worker.loops(pool)
            send(successor, {:answer, :ok})
          end)

        assert log =~ "payment worker crashed: :killed"
        refute_received {:handling, :lost, _loop}
        assert queue.take(name) == :empty
        assert queue.stats(name) == %{queue_size: 0, in_flight: 1}
      end

      test "an item whose handler raises is logged and lost", %{queue: queue, name: name} do
        start_workers(queue, name, 1)
        :ok = queue.enqueue(:lost, name)
        assert_receive {:handling, :lost, loop}

        log =
          capture_log(fn ->
            send(loop, {:answer, :raise})
            :ok = queue.enqueue(:marker, name)
            assert_receive {:handling, :marker, ^loop}
          end)

        assert log =~ "payment lost: ** (RuntimeError) declined"
        assert queue.take(name) == :empty
      end

      test "an error goes back to the tail, behind what came later", %{queue: queue, name: name} do
        start_workers(queue, name, 1)
        :ok = queue.enqueue(:failing, name)
        assert_receive {:handling, :failing, loop}
        :ok = queue.enqueue(:later, name)

        log =
          capture_log(fn ->
            send(loop, {:answer, {:error, :gateway_down}})
            assert_receive {:handling, :later, ^loop}
            send(loop, {:answer, :ok})
            assert_receive {:handling, :failing, ^loop}
          end)

        assert log =~ "payment goes back to the tail: :gateway_down"
      end

      @tag options: [capacity: 1]
      test "an error is lost when the queue has filled up meanwhile", %{queue: queue, name: name} do
        start_workers(queue, name, 1)
        :ok = queue.enqueue(:failing, name)
        assert_receive {:handling, :failing, loop}
        :ok = queue.enqueue(:later, name)

        log =
          capture_log(fn ->
            send(loop, {:answer, {:error, :gateway_down}})
            assert_receive {:handling, :later, ^loop}
          end)

        assert log =~ "payment lost: no room to put it back"
        assert queue.take(name) == :empty
      end
    end
  end

  defp start_queue(%{queue: queue, test: name} = context) do
    start_supervised!({queue, [name: name] ++ Map.get(context, :options, [])})
    on_exit(fn -> :persistent_term.erase({queue, name}) end)
    {:ok, name: name}
  end

  # The handler is in the test's hand: it tells what it got and waits for what to answer.
  defp start_workers(queue, name, concurrency) do
    test = self()

    handler = fn item ->
      send(test, {:handling, item, self()})

      receive do
        {:answer, :raise} -> raise "declined"
        {:answer, answer} -> answer
      end
    end

    start_supervised!({Worker, queue: queue, queue_name: name, handler: handler, concurrency: concurrency})
  end
end
