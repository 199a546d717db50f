defmodule PaymentQueue.Laws.SurvivalTest do
  # Survival: the queue outlives every BEAM process, its supervisor included, and the loading of the module.
  use PaymentQueue.QueueCase, async: true

  test "the tree is killed: the queue stays open, start_link finds the items" do
    name = new_name()
    {:ok, tree} = start_unlinked(name: name, capacity: 10)
    {:ok, 3} = PaymentQueue.enqueue_many([1, 2, 3], queue: name)
    {:ok, 1, lease} = PaymentQueue.take(queue: name)
    kill(tree)
    assert PaymentQueue.enqueue(4, queue: name) == :ok
    assert PaymentQueue.stats(name) == %{queue_size: 3, in_flight: 1}
    queue!(name: name, capacity: 3)
    assert PaymentQueue.enqueue(5, queue: name) == {:error, :queue_full}
    assert PaymentQueue.ack(lease) == :ok
    assert take_all(name) == [2, 3, 4]
  end

  test "the tree is killed while handlers run: no item is lost, none is handled by two at once" do
    name = new_name()
    options = [name: name, handler: asking(self()), concurrency: 2, shutdown: 5_000]
    {:ok, tree} = start_unlinked(options)
    {:ok, 3} = PaymentQueue.enqueue_many([1, 2, 3], queue: name)
    assert_receive {:handling, one, 1}
    assert_receive {:handling, two, 2}
    kill(tree)
    # The new tree starts while the old workers still finish their items.
    queue!(options)
    assert_receive {:handling, three, 3}
    refute_received {:handling, _, _}
    for worker <- [one, two, three], do: send(worker, {:return, :ok})
    eventually(fn -> PaymentQueue.info(name).settled == 3 end)
    assert %{redelivered: 0} = assert_conserved(name)
  end

  test "a paused queue is found paused" do
    name = new_name()
    {:ok, tree} = start_unlinked(name: name)
    :ok = PaymentQueue.enqueue(1, queue: name)
    :ok = PaymentQueue.pause(name)
    kill(tree)
    queue!(name: name)
    assert PaymentQueue.take(queue: name) == :empty
    :ok = PaymentQueue.resume(name)
    assert take_all(name) == [1]
  end

  test "it is found by name after everybody who knew it is gone" do
    name = new_name()

    owner =
      spawn(fn ->
        {:ok, tree} = PaymentQueue.start_link([name: name] ++ place())
        :ok = PaymentQueue.enqueue({:from, self()}, queue: name)
        Process.unlink(tree)
        Process.exit(tree, :kill)
      end)

    eventually(fn -> not Process.alive?(owner) and tree(name) == nil and name in PaymentQueue.queues() end)
    assert PaymentQueue.peek(1, name) == [{:from, owner}]
  end

  defp start_unlinked(opts) do
    Actor.run(actor(), fn ->
      {:ok, tree} = PaymentQueue.start_link(opts ++ place())
      Process.unlink(tree)
      {:ok, tree}
    end)
  end

  # In a VM of its own: a mistake here takes the whole VM down.
  @tag timeout: 120_000
  test "purging the native module from the VM loses nothing" do
    script = """
    alias PaymentQueue.Native
    {:ok, _} = PaymentQueue.start_link(capacity: 100, handler: fn n -> IO.puts("handled \#{n}") end, concurrency: 0)
    {:ok, 3} = PaymentQueue.enqueue_many([1, 2, 3])
    {:ok, 1, lease} = PaymentQueue.take()
    holder = spawn(fn -> {:ok, 2, _} = PaymentQueue.take(); receive do: (:die -> :ok) end)
    monitor = Process.monitor(holder)

    for _ <- 1..3 do
      true = :code.delete(Native)
      _ = :code.purge(Native)
      false = :erlang.module_loaded(Native)
      :ok = PaymentQueue.enqueue(4)
      true = :erlang.module_loaded(Native)
    end

    :ok = PaymentQueue.ack(lease)
    send(holder, :die)
    receive do: ({:DOWN, ^monitor, _, _, _} -> :ok)
    {:ok, 2, lease} = PaymentQueue.take(timeout: 5_000)
    2 = PaymentQueue.attempt(lease)
    [3, 4, 4, 4] = PaymentQueue.peek(9)
    %{enqueued: 6, settled: 1, in_flight: 1, queue_size: 4} = PaymentQueue.info()
    :ok = PaymentQueue.ack(lease)
    IO.puts("nothing lost")
    """

    ebin = Application.app_dir(:payment_queue, "ebin")
    {output, status} = System.cmd(System.find_executable("elixir"), ["-pa", ebin, "-e", script], stderr_to_stdout: true)
    assert {String.trim(output), status} == {"nothing lost", 0}
  end
end
