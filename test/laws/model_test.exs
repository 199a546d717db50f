defmodule PaymentQueue.ModelTest do
  # Random programs of API calls against a model of a few lines: after each call the answer and all counters agree.
  # Three consumers take, settle, give back, die; every delivery has a number, by which programs name live and stale leases.
  use ExUnit.Case, async: true

  import PaymentQueue.QueueCase, only: [eventually: 1, kill: 1, new_name: 0]

  alias PaymentQueue.QueueCase.Actor

  @compile {:no_warn_undefined, [:proper, :proper_statem, :proper_types]}

  @moduletag :proper
  @moduletag timeout: 120_000

  @capacity 6
  @max_attempts 3
  @actors [1, 2, 3]

  test "any program of calls behaves as the model" do
    property =
      :proper.forall(:proper_statem.commands(__MODULE__), fn commands ->
        begin_program()
        {_, _, result} = :proper_statem.run_commands(__MODULE__, commands)
        end_program()
        result == :ok
      end)

    assert :proper.quickcheck(property, [:quiet, numtests: 300, max_size: 60]) == true,
           "counterexample: #{inspect(:proper.counterexample(), limit: :infinity, pretty: true)}"
  end

  # --- the program's side --------------------------------------------------------------------------------------------

  defp begin_program do
    queue = new_name()
    {:ok, tree} = PaymentQueue.start_link(name: queue, capacity: @capacity, max_attempts: @max_attempts)
    Process.put(:program, %{queue: queue, tree: tree, actors: Map.new(@actors, &{&1, spawn_actor()}), leases: %{}})
  end

  defp end_program do
    %{tree: tree, actors: actors} = Process.get(:program)
    Enum.each(actors, fn {_, pid} -> kill(pid) end)
    Supervisor.stop(tree)
  end

  defp spawn_actor, do: spawn(&Actor.loop/0)
  defp queue, do: Process.get(:program).queue
  defp lease(delivery), do: Process.get(:program).leases[delivery]
  defp by(actor, fun), do: Actor.run(Process.get(:program).actors[actor], fun)

  defp keep(delivery, lease) do
    Process.put(:program, put_in(Process.get(:program).leases[delivery], lease))
    PaymentQueue.attempt(lease)
  end

  defp taken({:ok, payload, lease}, delivery), do: {payload, keep(delivery, lease)}
  defp taken(other, _delivery), do: other

  defp counted(result) do
    info = PaymentQueue.info(queue())
    {result, Map.take(info, [:enqueued, :settled, :queue_size, :in_flight, :dead, :purged, :redelivered, :state])}
  end

  def enqueue(n), do: counted(PaymentQueue.enqueue(n, queue: queue()))
  def enqueue_many(list), do: counted(PaymentQueue.enqueue_many(list, queue: queue()))

  def take(actor, delivery) do
    queue = queue()
    by(actor, fn -> PaymentQueue.take(queue: queue) end) |> taken(delivery) |> counted()
  end

  def settle_take(actor, last, delivery) do
    {queue, last} = {queue(), lease(last)}
    by(actor, fn -> PaymentQueue.take(queue: queue, ack: last) end) |> taken(delivery) |> counted()
  end

  def take_many(actor, n, delivery) do
    queue = queue()

    by(actor, fn -> PaymentQueue.take_many(n, queue: queue) end)
    |> Enum.with_index(delivery)
    |> Enum.map(fn {{payload, lease}, delivery} -> {payload, keep(delivery, lease)} end)
    |> counted()
  end

  def dequeue do
    case PaymentQueue.dequeue(queue: queue()) do
      {:ok, payload, wait} when wait >= 0 -> counted({:ok, payload})
      other -> counted(other)
    end
  end

  def ack(delivery), do: counted(PaymentQueue.ack(lease(delivery)))
  def nack(delivery), do: counted(PaymentQueue.nack(lease(delivery)))
  def reject(delivery), do: counted(PaymentQueue.reject(lease(delivery), {:reason, delivery}))
  def pause, do: counted(PaymentQueue.pause(queue()))
  def resume, do: counted(PaymentQueue.resume(queue()))
  def close, do: counted(PaymentQueue.drain(queue(), timeout: 0))
  def purge, do: counted(PaymentQueue.purge(queue()))
  def requeue_dead(n), do: counted(PaymentQueue.requeue_dead(queue(), n))
  def peek, do: counted(PaymentQueue.peek(100, queue()))

  def dead_letters do
    counted(for letter <- PaymentQueue.dead_letters(queue()), do: {letter.payload, letter.attempts, letter.reason})
  end

  # The monitor in the NIF and ours hear of a death in either order.
  def kill_actor(actor, in_flight) do
    program = Process.get(:program)
    kill(program.actors[actor])
    Process.put(:program, put_in(program.actors[actor], spawn_actor()))
    eventually(fn -> PaymentQueue.stats(queue()).in_flight == in_flight end)
    counted(:ok)
  end

  # --- the generator -------------------------------------------------------------------------------------------------

  def initial_state do
    # An item is {place in the line, payload, attempts}.
    %{
      fresh: [],
      front: [],
      held: %{},
      dead: [],
      payload: 0,
      place: 0,
      delivery: 0,
      paused: false,
      closed: false,
      counts: %{enqueued: 0, settled: 0, purged: 0, redelivered: 0}
    }
  end

  def command(s) do
    actor = :proper_types.oneof(@actors)
    # The last few deliveries: live ones mostly, stale ones often enough.
    delivery = if s.delivery > 0, do: :proper_types.integer(max(0, s.delivery - 6), s.delivery - 1)

    always = [
      {6, call(:enqueue, [s.payload])},
      {2, call(:enqueue_many, [Enum.to_list(s.payload..(s.payload + 2))])},
      {6, call(:take, [actor, s.delivery])},
      {2, call(:take_many, [actor, :proper_types.integer(1, 4), s.delivery])},
      {1, call(:dequeue, [])},
      {1, call(:pause, [])},
      {3, call(:resume, [])},
      {1, call(:close, [])},
      {1, call(:purge, [])},
      {1, call(:peek, [])},
      {1, call(:dead_letters, [])},
      {1, call(:requeue_dead, [:proper_types.integer(0, 3)])}
    ]

    kills = for a <- @actors, do: {1, call(:kill_actor, [a, length(Map.keys(s.held)) - length(held_by(s, a))])}

    settling =
      if delivery do
        [
          {4, call(:ack, [delivery])},
          {4, call(:nack, [delivery])},
          {2, call(:reject, [delivery])},
          {3, call(:settle_take, [actor, delivery, s.delivery])}
        ]
      else
        []
      end

    :proper_types.frequency(always ++ kills ++ settling)
  end

  defp call(function, args), do: {:call, __MODULE__, function, args}

  # Arguments that say what the model expects must still fit after shrinking. Two deaths of items at once have no
  # order among them, so the model stays away from those.
  def precondition(s, {:call, _, function, args}) do
    case {function, args} do
      {:enqueue, [n]} -> n == s.payload
      {:enqueue_many, [[n | _]]} -> n == s.payload
      {:take, [_, delivery]} -> delivery == s.delivery
      {:take_many, [_, _, delivery]} -> delivery == s.delivery
      {:settle_take, [_, last, delivery]} -> last < s.delivery and delivery == s.delivery
      {settle, [delivery]} when settle in [:ack, :nack, :reject] -> delivery < s.delivery
      {:kill_actor, [actor, n]} -> n == map_size(s.held) - length(held_by(s, actor)) and dying(s, actor) <= 1
      _ -> true
    end
  end

  defp held_by(s, actor), do: for({delivery, {^actor, item}} <- s.held, do: {delivery, item})
  defp dying(s, actor), do: Enum.count(held_by(s, actor), fn {_, {_, _, attempts}} -> attempts >= @max_attempts end)

  def next_state(s, _result, {:call, _, function, args}), do: s |> model(function, args) |> elem(1)

  def postcondition(s, {:call, _, function, args}, result) do
    {expected, after_it} = model(s, function, args)
    result == {expected, counters(after_it)}
  end

  # --- the model -----------------------------------------------------------------------------------------------------

  defp counters(s) do
    state = if s.closed, do: :closed, else: if(s.paused, do: :paused, else: :running)
    waiting = length(s.fresh) + length(s.front)
    Map.merge(s.counts, %{queue_size: waiting, in_flight: map_size(s.held), dead: length(s.dead), state: state})
  end

  defp count(s, counter, n \\ 1), do: update_in(s.counts[counter], &(&1 + n))

  defp model(s, :enqueue, [n]) do
    {result, s} = accept(s, n)
    {result, %{s | payload: n + 1}}
  end

  defp model(s, :enqueue_many, [list]) do
    {result, s} =
      Enum.reduce_while(list, {{:ok, 0}, s}, fn n, {{:ok, done}, s} ->
        case accept(s, n) do
          {:ok, s} -> {:cont, {{:ok, done + 1}, s}}
          {{:error, reason}, s} -> {:halt, {{:error, reason, done}, s}}
        end
      end)

    {result, %{s | payload: s.payload + length(list)}}
  end

  defp model(s, :take, [actor, delivery]), do: deliver(s, actor, delivery)

  defp model(s, :settle_take, [actor, last, delivery]) do
    case model(s, :ack, [last]) do
      {:ok, s} -> deliver(s, actor, delivery)
      stale -> stale
    end
  end

  defp model(s, :take_many, [_actor, 0, _delivery]), do: {[], s}

  defp model(s, :take_many, [actor, n, delivery]) do
    case deliver(s, actor, delivery) do
      {:empty, s} ->
        {[], s}

      {taken, s} ->
        {more, s} = model(s, :take_many, [actor, n - 1, delivery + 1])
        {[taken | more], s}
    end
  end

  defp model(s, :dequeue, []) do
    case pop(s) do
      {nil, s} -> {:empty, s}
      {{_, payload, _}, s} -> {{:ok, payload}, count(s, :settled)}
    end
  end

  defp model(s, :ack, [delivery]), do: settle(s, delivery, fn s, _ -> count(s, :settled) end)
  defp model(s, :nack, [delivery]), do: settle(s, delivery, &back(&1, &2, :max_attempts))
  defp model(s, :reject, [delivery]), do: settle(s, delivery, &bury(&1, &2, {:reason, delivery}))

  defp model(s, :kill_actor, [actor, _]) do
    {:ok,
     Enum.reduce(held_by(s, actor), s, fn {delivery, item}, s ->
       back(%{s | held: Map.delete(s.held, delivery)}, item, :consumer_down)
     end)}
  end

  defp model(s, :pause, []), do: {:ok, %{s | paused: true}}
  defp model(s, :resume, []), do: {:ok, %{s | paused: false, closed: false}}

  defp model(s, :close, []) do
    idle? = s.fresh == [] and s.front == [] and s.held == %{}
    {if(idle?, do: :ok, else: {:error, :timeout}), %{s | closed: true}}
  end

  defp model(s, :purge, []) do
    n = length(s.fresh) + length(s.front)
    {{:ok, n}, count(%{s | fresh: [], front: []}, :purged, n)}
  end

  defp model(s, :requeue_dead, [n]) do
    {moved, dead} = Enum.split(s.dead, n)
    s = Enum.reduce(moved, %{s | dead: dead}, fn {{_, payload, _}, _}, s -> push(s, payload) end)
    {{:ok, length(moved)}, s}
  end

  defp model(s, :peek, []), do: {for({_, payload, _} <- s.front ++ s.fresh, do: payload), s}

  defp model(s, :dead_letters, []),
    do: {for({{_, payload, attempts}, reason} <- s.dead, do: {payload, attempts, reason}), s}

  defp accept(s, n) do
    cond do
      s.closed -> {{:error, :queue_closed}, s}
      length(s.fresh) + length(s.front) >= @capacity -> {{:error, :queue_full}, s}
      true -> {:ok, s |> push(n) |> count(:enqueued)}
    end
  end

  defp push(s, payload), do: %{s | fresh: s.fresh ++ [{s.place, payload, 0}], place: s.place + 1}

  defp pop(%{paused: true} = s), do: {nil, s}
  defp pop(%{front: [item | front]} = s), do: {item, %{s | front: front}}
  defp pop(%{fresh: [item | fresh]} = s), do: {item, %{s | fresh: fresh}}
  defp pop(s), do: {nil, s}

  defp deliver(s, actor, delivery) do
    case pop(%{s | delivery: delivery + 1}) do
      {nil, _} ->
        {:empty, s}

      {{place, payload, attempts}, s} ->
        {{payload, attempts + 1}, put_in(s.held[delivery], {actor, {place, payload, attempts + 1}})}
    end
  end

  defp settle(s, delivery, how) do
    case Map.pop(s.held, delivery) do
      {nil, _} -> {{:error, :stale_lease}, s}
      {{_actor, item}, held} -> {:ok, how.(%{s | held: held}, item)}
    end
  end

  defp back(s, {_, _, attempts} = item, reason) when attempts >= @max_attempts, do: bury(s, item, reason)
  defp back(s, item, _reason), do: count(%{s | front: Enum.sort([item | s.front])}, :redelivered)

  defp bury(s, item, reason), do: %{s | dead: s.dead ++ [{item, reason}]}
end
