defmodule PaymentQueue.Workers.ShutdownTest do
  use PaymentQueue.QueueCase, async: true

  import ExUnit.CaptureLog

  defp start(name, opts) do
    defaults = [name: name, handler: asking(self()), concurrency: 2, shutdown: 5_000]
    start_supervised!({PaymentQueue, Keyword.merge(defaults, opts)}, id: name, restart: :temporary)
    name
  end

  defp stop(queue), do: Actor.cast(actor(), fn -> PaymentQueue.Supervisor.stop(queue) end)

  test "closes the queue, lets running handlers finish, leaves the rest" do
    queue = start(new_name(), [])
    {:ok, 4} = PaymentQueue.enqueue_many([1, 2, 3, 4], queue: queue)
    assert_receive {:handling, one, 1}
    assert_receive {:handling, two, 2}
    stopped = stop(queue)
    eventually(fn -> PaymentQueue.enqueue(5, queue: queue) == {:error, :queue_closed} end)
    refute_received {^stopped, _}
    send(one, {:return, :ok})
    send(two, {:return, {:error, :down}})
    assert_receive {^stopped, :ok}
    assert %{settled: 1, in_flight: 0} = assert_conserved(queue)
    # Those who were never handled wait for the next start, in their order; the failed one waits for its backoff.
    assert [3, 4 | _] = PaymentQueue.peek(9, queue) -- [2, 5]
  end

  test "kills what is still running after `shutdown` ms; its item is back at the head" do
    queue = start(new_name(), shutdown: 20, concurrency: 1)
    {:ok, 2} = PaymentQueue.enqueue_many([1, 2], queue: queue)
    assert_receive {:handling, worker, 1}
    monitor = Process.monitor(worker)
    log = capture_log(fn -> PaymentQueue.Supervisor.stop(queue) end)
    assert_receive {:DOWN, ^monitor, _, _, :killed}
    assert log =~ "1 handlers were still running 20 ms after the shutdown began"
    assert eventually(fn -> PaymentQueue.peek(9, queue) == [1, 2] end)
    assert_conserved(queue)
  end

  test "a stopped queue without workers is closed, too, and open after a new start" do
    queue = start(new_name(), handler: nil)
    :ok = PaymentQueue.enqueue(1, queue: queue)
    assert PaymentQueue.Supervisor.stop(queue) == :ok
    assert PaymentQueue.enqueue(2, queue: queue) == {:error, :queue_closed}
    {:ok, _} = PaymentQueue.start_link(name: queue)
    assert PaymentQueue.enqueue(2, queue: queue) == :ok
    assert take_all(queue) == [1, 2]
  end

  test "starting a running queue again names the running tree" do
    queue = start(new_name(), handler: nil, capacity: 5)
    tree = tree(queue)
    assert PaymentQueue.start_link(name: queue, capacity: 9) == {:error, {:already_started, tree}}
    assert PaymentQueue.info(queue).capacity == 5
  end

  test "a handler_timeout still holds during the shutdown" do
    queue = start(new_name(), handler_timeout: 200, concurrency: 1, shutdown: :infinity)
    :ok = PaymentQueue.enqueue(1, queue: queue)
    assert_receive {:handling, _, 1}
    ref = stop(queue)
    assert_receive {^ref, :ok}
    assert %{in_flight: 0} = assert_conserved(queue)
  end

  test "a killed pool: workers finish their item, new ones take over" do
    queue = start(new_name(), concurrency: 1)
    {:ok, 2} = PaymentQueue.enqueue_many([1, 2], queue: queue)
    assert_receive {:handling, worker, 1}
    monitor = Process.monitor(worker)
    kill(PaymentQueue.Supervisor.pool(queue))
    assert_receive {:handling, other, 2}
    refute other == worker
    send(worker, {:return, :ok})
    assert_receive {:DOWN, ^monitor, _, _, :shutdown}
    send(other, {:return, :ok})
    eventually(fn -> PaymentQueue.info(queue).settled == 2 end)
    assert PaymentQueue.enqueue(3, queue: queue) == :ok
    assert_receive {:handling, ^other, 3}
    send(other, {:return, :ok})
  end
end
