defmodule PaymentQueue.Soak.Line do
  @moduledoc """
  One queue of the soak with all that works on it: its tree, its callers, its consumers. They are linked to the process that
  started the line, which kills them, replaces them, and notices when one dies of anything else.
  """

  alias PaymentQueue.Soak.{Caller, Fate, Handler, Kind, Ledger, Place, Puller, Stage, Waiting}

  @enforce_keys [:kind, :queue, :ledger, :seed, :start]
  defstruct @enforce_keys ++
              [
                :server,
                :tree,
                :late,
                :stage,
                callers: [],
                pullers: [],
                wanted: 0,
                next_caller: 1,
                capacity: 0,
                ceiling: 0,
                rate: 0
              ]

  @typedoc """
  `server`: what its `PaymentQueue.Soak.Place` needs; `start`: the options of its tree; `wanted`: pullers that there should be;
  `next_caller`: the number of the next one, for each has its own ids; `capacity`: in force now; `ceiling`: the largest capacity
  that may still show in the queue's size; `rate`: the most deliveries per window since the last quiet point.
  """
  @type t :: %__MODULE__{}

  @callers 3
  @pullers 6

  @doc "Starts the queue and its consumers; callers come with `call/1`."
  @spec start(Kind.t(), Fate.seed(), Path.t()) :: t()
  def start(kind, seed, dir) do
    queue = queue(kind)
    ledger = Ledger.new(queue)
    {place, server} = Place.make(kind, dir)
    line = %__MODULE__{kind: kind, queue: queue, ledger: ledger, server: server, seed: seed, start: []}
    wanted = if kind.consumers == :pullers, do: @pullers, else: 0
    line = start_tree(%{line | start: start_options(line, place), wanted: wanted})
    line |> with_late() |> staff()
  end

  @doc "The name of the queue of a kind."
  @spec queue(Kind.t()) :: atom()
  def queue(kind), do: :"soak_#{kind.name}"

  @doc "Ends all that works on the queue, and empties it: the queue itself stays as long as the VM."
  @spec stop(t()) :: :ok
  def stop(line) do
    stage = if line.stage, do: Tuple.to_list(line.stage), else: []

    for pid <- [line.late | line.callers ++ line.pullers ++ stage], pid != nil do
      monitor = Process.monitor(pid)
      Process.exit(pid, :kill)
      receive(do: ({:DOWN, ^monitor, _, _, _} -> :ok))
    end

    PaymentQueue.Supervisor.stop(line.queue)
    {:ok, _} = PaymentQueue.requeue_dead(line.queue)
    {:ok, _} = PaymentQueue.purge(line.queue)
    Place.unmake(line.server)
  end

  defp start_options(%{kind: kind} = line, place),
    do: [name: line.queue] ++ place ++ handler(line) ++ Kind.options(kind)

  defp handler(%{kind: %{consumers: :workers}} = line) do
    function = if Kind.batch(line.kind) > 1, do: :many, else: :one
    [handler: {Handler, function, [%{ledger: line.ledger, seed: line.seed}]}]
  end

  defp handler(_line), do: []

  # --- the tree ------------------------------------------------------------------------------------------------------

  @doc "Starts the tree, with the settings that it always starts with."
  @spec start_tree(t()) :: t()
  def start_tree(line) do
    {:ok, tree} = PaymentQueue.start_link(line.start)
    capacity = line.start[:capacity]
    {rate, _ms} = line.start[:rate_limit] || {0, 1}
    %{line | tree: tree, capacity: capacity, ceiling: max(line.ceiling, capacity), rate: max(line.rate, rate)}
  end

  @doc "Stops the tree in an orderly way and starts it again."
  @spec restart(t()) :: t()
  def restart(line) do
    PaymentQueue.Supervisor.stop(line.queue)
    again(line)
  end

  @doc "Kills the tree and starts it again."
  @spec kill_tree(t()) :: t()
  def kill_tree(line) do
    Process.exit(line.tree, :kill)
    again(line)
  end

  defp again(%{tree: tree} = line) do
    Ledger.count(line.ledger, :restarts)
    receive(do: ({:EXIT, ^tree, _} -> start_tree(line)))
  end

  @doc "Kills the process that looks after the workers; its supervisor replaces it."
  @spec kill_pool(t()) :: t()
  def kill_pool(line) do
    with pool when is_pid(pool) <- PaymentQueue.Supervisor.pool(line.queue), do: kill(line, [pool])
    line
  end

  # --- callers and consumers -----------------------------------------------------------------------------------------

  @doc "Brings callers and consumers to their numbers."
  @spec staff(t()) :: t()
  def staff(line), do: line |> with_pullers() |> with_stage()

  @doc "Lets callers work."
  @spec call(t()) :: t()
  def call(line) do
    Caller.go(line.callers)
    with_callers(line)
  end

  defp with_callers(line) when length(line.callers) >= @callers, do: line

  defp with_callers(line) do
    {context, line} = caller(line)
    pid = spawn_link(Caller, :run, [context])
    with_callers(%{line | callers: [pid | line.callers]})
  end

  @doc "What a new caller has to know; no other has its number."
  @spec caller(t()) :: {Caller.context(), t()}
  def caller(line) do
    context = line |> Map.take([:queue, :kind, :ledger, :seed]) |> Map.put(:number, line.next_caller)
    {context, %{line | next_caller: line.next_caller + 1}}
  end

  defp with_late(%{kind: %{consumers: :pullers}} = line),
    do: %{line | late: spawn_link(Puller, :late, [line.ledger])}

  defp with_late(line), do: line

  defp with_pullers(%{wanted: wanted} = line) do
    case wanted - length(line.pullers) do
      0 ->
        line

      n when n > 0 ->
        new = for _ <- 1..n, do: spawn_link(Puller, :run, [context(line)])
        %{line | pullers: new ++ line.pullers}

      n ->
        {surplus, rest} = Enum.split(line.pullers, -n)
        kill(line, surplus)
        %{line | pullers: rest}
    end
  end

  defp with_stage(%{kind: %{consumers: :stage}, stage: nil} = line),
    do: %{line | stage: Stage.start_link(context(line))}

  defp with_stage(line), do: line

  defp context(line), do: Map.take(line, [:queue, :ledger, :seed, :late])

  @doc "Sets the number of consumers."
  @spec scale(t(), non_neg_integer()) :: t()
  def scale(%{kind: %{consumers: :pullers}} = line, n), do: with_pullers(%{line | wanted: n})

  def scale(%{kind: %{consumers: :workers}} = line, n) do
    _ = scaled?(line, n)
    line
  end

  def scale(line, _n), do: line

  # Not, if the tree or its pool is on its way up or down.
  defp scaled?(line, n) do
    case PaymentQueue.scale(line.queue, n) do
      :ok -> true
      {:error, :no_workers} -> false
    end
  catch
    # The pool was killed while it was asked.
    :exit, _ -> false
  end

  @doc "Brings back the number of consumers that each quiet point finds."
  @spec scale_back(t()) :: t()
  def scale_back(%{kind: %{consumers: :workers}} = line) do
    scaled? = Waiting.until(30_000, fn -> scaled?(line, Kind.option(line.kind, :concurrency)) end)
    unless scaled?, do: violate(line, :answer, "scale/2 finds no workers for half a minute")
    line
  end

  def scale_back(line), do: scale(line, @pullers)

  @doc "The consumers that live."
  @spec consumers(t()) :: [pid()]
  def consumers(%{kind: %{consumers: :workers}} = line), do: workers(line.queue)
  def consumers(%{kind: %{consumers: :pullers}} = line), do: line.pullers
  def consumers(%{stage: {_producer, consumer}}), do: [consumer]
  def consumers(_line), do: []

  defp workers(queue) do
    with pool when is_pid(pool) <- PaymentQueue.Supervisor.pool(queue),
         %{sup: supervisor} = :sys.get_state(pool) do
      for {_, pid, _, _} when is_pid(pid) <- DynamicSupervisor.which_children(supervisor), do: pid
    else
      nil -> []
    end
  catch
    :exit, _ -> []
  end

  @doc "Kills so many consumers, picked at random."
  @spec kill_consumers(t(), pos_integer()) :: t()
  def kill_consumers(line, n) do
    kill(line, line |> consumers() |> Enum.take_random(n))
    line
  end

  @doc "Kills so many callers, picked at random."
  @spec kill_callers(t(), pos_integer()) :: t()
  def kill_callers(line, n) do
    kill(line, Enum.take_random(line.callers, n))
    line
  end

  defp kill(line, pids) do
    Ledger.count(line.ledger, :kills, length(pids))
    Enum.each(pids, &Process.exit(&1, :kill))
  end

  @doc """
  Waits until those who settle by themselves have written down how it ended: an acknowledgement is done before its answer is
  there. For an empty queue.
  """
  @spec confirm(t()) :: :ok
  def confirm(%{kind: %{consumers: :workers}}), do: :ok
  def confirm(line), do: Waiting.ask_all(List.wrap(line.late) ++ consumers(line), :confirm)

  # --- deaths --------------------------------------------------------------------------------------------------------

  @doc "Replaces who has died; that anybody died of anything but a kill is a violation. `callers?`: whether they are replaced, too."
  @spec bury(t(), boolean()) :: t()
  def bury(line, callers? \\ true) do
    receive do
      {:EXIT, pid, reason} -> line |> died(pid, reason) |> bury(callers?)
    after
      0 -> if callers?, do: line |> staff() |> with_callers(), else: staff(line)
    end
  end

  defp died(%{tree: tree} = line, tree, _reason), do: start_tree(line)

  defp died(%{stage: {producer, consumer}} = line, pid, reason) when pid in [producer, consumer] do
    if pid == consumer, do: expect_kill(line, pid, reason)
    %{line | stage: stopped(pid, producer, consumer)}
  end

  defp died(line, pid, reason) do
    expect_kill(line, pid, reason)
    %{line | callers: List.delete(line.callers, pid), pullers: List.delete(line.pullers, pid)}
  end

  # The tasks of a quiet point end normally.
  defp expect_kill(_line, _pid, reason) when reason in [:killed, :normal], do: :ok

  defp expect_kill(line, pid, reason),
    do: violate(line, :crash, "#{inspect(pid)} died: #{Exception.format_exit(reason)}")

  # A consumer's death stops its producer; one that died before it had subscribed leaves a producer of nothing behind.
  defp stopped(pid, producer, consumer) do
    other = if pid == producer, do: consumer, else: producer

    receive do
      {:EXIT, ^other, _} -> nil
    after
      1_000 ->
        Process.exit(other, :kill)
        receive(do: ({:EXIT, ^other, _} -> nil))
    end
  end

  @doc "Writes down that a law was broken."
  @spec violate(t(), atom(), String.t()) :: :ok
  def violate(line, law, text), do: Ledger.violate(line.ledger, law, text)
end
