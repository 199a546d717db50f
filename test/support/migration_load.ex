defmodule PaymentQueue.MigrationLoad do
  @moduledoc false
  # An application under load while its migration is steered by a program. Each step of it runs beside a burst of calls of
  # every producer; both sides' workers run all the time. Afterwards the books are compared: what was accepted, and how
  # often each item was handled.

  import PaymentQueue.QueueCase, only: [eventually: 1, kill: 1, new_name: 0]

  alias PaymentQueue.Baseline.Worker
  alias PaymentQueue.{Migration, OldQueue}

  @producers 3
  @burst 20
  @keys 40

  @type step :: {:mode, Migration.mode()} | :drain | :restart | :crash

  @doc """
  Runs a program. Returns the accepted and the refused items, how often each item was handled, and how many the drains
  moved.
  """
  def run(kind, program) do
    run = start(kind)
    test = self()
    producers = for n <- 1..@producers, do: Task.async(fn -> produce(run.migration, test, n, 0, []) end)
    drains = Enum.flat_map(program, &step(run, producers, &1))
    Enum.each(producers, &send(&1.pid, :finish))

    {accepted, refused} =
      producers |> Task.await_many(60_000) |> List.flatten() |> Enum.split_with(&(elem(&1, 1) == :ok))

    moved = drains |> Task.await_many(60_000) |> Enum.map(&moved/1) |> Enum.sum()
    wait_for_all(run, length(accepted))
    stop(run)

    %{
      accepted: Enum.map(accepted, &elem(&1, 0)),
      refused: refused,
      handled: Map.new(:ets.tab2list(run.handled)),
      moved: moved,
      sides: run.sides |> :ets.tab2list() |> Map.new()
    }
  end

  @doc "What is wrong with the books: nothing, if all is well."
  def complaints(%{accepted: accepted, handled: handled}) do
    lost = Enum.reject(accepted, &is_map_key(handled, &1))
    not_once = for {_, times} = item <- handled, times != 1, do: item
    never_accepted = Map.keys(Map.drop(handled, accepted))
    for {what, [_ | _] = items} <- [lost: lost, not_once: not_once, never_accepted: never_accepted], do: {what, items}
  end

  # --- the application -----------------------------------------------------------------------------------------------

  defp start(kind) do
    handled = :ets.new(:handled, [:public, write_concurrency: true])
    sides = :ets.new(:sides, [:public])

    handler = fn side ->
      fn item ->
        :ets.update_counter(handled, item, 1, {item, 0})
        :ets.update_counter(sides, side, 1, {side, 0})
        :ok
      end
    end

    {queue, old} = {new_name(), OldQueue.name()}
    {:ok, old_queue} = kind.start_link(name: old, capacity: 30)
    {:ok, old_workers} = Worker.start_link(queue: kind, queue_name: old, handler: handler.(:legacy), concurrency: 2)
    {:ok, tree} = PaymentQueue.start_link(name: queue, capacity: 10, handler: handler.(:native), concurrency: 2)
    options = [name: new_name(), queue: queue, legacy: OldQueue.wrap(kind, old)]
    start_migration(options)
    # They are stopped while the test lives.
    Enum.each([old_queue, old_workers, tree], &Process.unlink/1)

    %{
      migration: options[:name],
      options: options,
      queue: queue,
      old: options[:legacy],
      stop: [old_workers, tree, old_queue],
      handled: handled,
      sides: sides
    }
  end

  # Not linked: the program kills it.
  defp start_migration(options) do
    {:ok, pid} = Migration.start_link(options)
    Process.unlink(pid)
    pid
  end

  defp produce(migration, test, producer, n, answers) do
    receive do
      :burst ->
        burst = for i <- n..(n + @burst - 1), do: {{producer, i}, offer(migration, {producer, i})}
        send(test, {:burst_over, self()})
        produce(migration, test, producer, n + @burst, [burst | answers])

      :finish ->
        answers
    end
  end

  defp offer(migration, {_, i} = item), do: Migration.enqueue(item, name: migration, key: rem(i, @keys))

  # --- the program ---------------------------------------------------------------------------------------------------

  defp step(run, producers, step) do
    pids = Enum.map(producers, & &1.pid)
    Enum.each(pids, &send(&1, :burst))
    drains = steer(run, step)
    for pid <- pids, do: receive(do: ({:burst_over, ^pid} -> :ok))
    drains
  end

  defp steer(run, {:mode, mode}) do
    :ok = Migration.set_mode(mode, name: run.migration)
    []
  end

  defp steer(run, :drain), do: [Task.async(fn -> Migration.drain_legacy(name: run.migration, timeout: 2_000) end)]

  defp steer(run, :restart) do
    Supervisor.stop(tree(run), :shutdown)
    start_migration(run.options)
    []
  end

  # At once, as a supervisor would: what was below is still finishing its step.
  defp steer(run, :crash) do
    kill(tree(run))
    start_migration(run.options)
    []
  end

  defp tree(run), do: Process.whereis(Migration.Supervisor.name(run.migration))

  defp moved({:ok, n}), do: n
  defp moved({:error, reason, n}) when reason in [:legacy_in_use, :timeout, :stopped, :not_running], do: n

  # --- the end -------------------------------------------------------------------------------------------------------

  # What is not handled within the helper's time is lost, which the books will say.
  defp wait_for_all(run, accepted) do
    eventually(fn -> run.handled |> :ets.tab2list() |> Enum.map(&elem(&1, 1)) |> Enum.sum() >= accepted end)
  rescue
    ExUnit.AssertionError -> :ok
  end

  # In an orderly way: whoever still handles something is waited for.
  defp stop(run) do
    Supervisor.stop(tree(run), :shutdown)
    Enum.each(run.stop, &GenServer.stop(&1, :shutdown))
    0 = PaymentQueue.stats(run.queue).queue_size
  end
end
