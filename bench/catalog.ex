defmodule PaymentQueue.Bench.Catalog do
  @moduledoc "Everything that is measured: the tables, their cells, and how long each is measured."

  alias PaymentQueue.Bench.{BackPressure, Cell, Core, Depth, EnqueueOnly, Features, FloorCosts, Goal, Latency, LoadTest}

  alias PaymentQueue.Bench.{
    Memory,
    NativeAdapter,
    Options,
    RequestMemory,
    Schedulers,
    Steps,
    Throughput,
    TimeInQueue,
    WakeUp
  }

  @producers [1, 2, 4, 16, 64, 1000]
  @workers [1, 4, 16, 64]
  @kinds [:map, :binary, :binary_4k, :binary_64k]

  # `share`: of the long samples' length, for the cells of which there are many.
  @full %{
    rounds: 5,
    seconds: 1.0,
    share: 0.2,
    queued: 500_000,
    million: 1_000_000,
    wake_ups: 600,
    timed: 200_000,
    paced: 50_000,
    batches: 40,
    operations: 100_000,
    depths: [1_000, 10_000, 100_000, 1_000_000],
    deepest: 10_000_000,
    load_seconds: 60,
    criterion: ~w(--warm-up-time 0.5 --measurement-time 2)
  }
  @quick %{
    rounds: 1,
    seconds: 0.1,
    share: 0.3,
    queued: 200_000,
    million: 1_000_000,
    wake_ups: 200,
    timed: 50_000,
    paced: 20_000,
    batches: 10,
    operations: 20_000,
    depths: [1_000, 10_000, 100_000, 1_000_000],
    deepest: nil,
    load_seconds: 10,
    criterion: ~w(--quick)
  }

  @tables [
    {:throughput, "Throughput: produced, taken and settled",
     "M items/s; “map 4+1” is 4 producers and 1 worker, one item a call. The replaced queues settle nothing."},
    {:enqueue_only, "Throughput: enqueue only", "M items/s until the queue says that it has them; nobody takes."},
    {:steps, "Latency: the steps of an enqueue and of a take", "2-field map, one process, medians."},
    {:latency, "Latency: the whole enqueue", "2-field map, 2 busy producers, each call timed by itself."},
    {:time_in_queue, "Latency: time in the queue", "From before the enqueue to after the take."},
    {:wake_up, "Latency: waking a waiting taker", "The replaced queues poll every millisecond."},
    {:memory, "Memory of a request", "Queued, in flight, and on the heaps of the processes, per item."},
    {:scaling, "Scaling", "Schedulers of the VM, and items that wait."},
    {:load, "Load test over HTTP", "256 B of JSON, 1000 connections, server and load generator on the same cores."},
    {:back_pressure, "Back-pressure", "What a full queue does. The GenServer queue in the form that calls."},
    {:features, "Features",
     "What they cost where items ask for them, and where they do not. One process, 2-field map."},
    {:core, "The core crate, without the BEAM", "By criterion, per item."},
    {:floors, "Floors", "What no queue in native code could be faster than."}
  ]

  @doc "Name, title and note of each table, in their order."
  @spec tables() :: [{atom(), String.t(), String.t()}]
  def tables, do: @tables

  @type size :: %{:rounds => pos_integer(), :seconds => number(), optional(atom()) => term()}

  @doc "How much is measured."
  @spec size(Options.t() | %{quick: boolean(), rounds: pos_integer() | nil, seconds: float() | nil}) :: size()
  def size(options) do
    size = if options.quick, do: @quick, else: @full
    %{size | rounds: options.rounds || size.rounds, seconds: options.seconds || size.seconds}
  end

  @doc "All cells, in the order of the tables."
  @spec cells(size()) :: [Cell.t()]
  def cells(size) do
    List.flatten([
      throughput(size),
      for(
        kind <- @kinds,
        producers <- @producers,
        do: EnqueueOnly.cell(kind, producers, min(1.0, 5 * size.seconds * size.share))
      ),
      Steps.cell(size.batches),
      Latency.cell(0, size.timed),
      Latency.cell(2, size.timed),
      TimeInQueue.cell(:paced, size.paced),
      TimeInQueue.cell(:saturated, size.timed),
      WakeUp.cell(size.wake_ups),
      memory(size),
      scaling(size),
      LoadTest.cell(:ordinary, size.load_seconds),
      LoadTest.cell(:saturated, max(div(size.load_seconds, 3), 5)),
      BackPressure.refusal_cell(size.timed),
      BackPressure.fairness_cell(max(ceil(1_000 * size.seconds), 500)),
      BackPressure.bound_cell(10, [NativeAdapter]),
      Features.cell(size.batches),
      Core.cell(size.criterion),
      FloorCosts.cell(size.timed)
    ])
  end

  # Those with a goal are measured longer, and come first.
  defp throughput(size) do
    goals = [
      {shape(:map, 4, 4), [Goal.ratio_at_least(8, 10)]},
      {shape(:map, 1, 1), [Goal.ratio_at_least(5), Goal.share_at_least(0.6)]},
      {shape(:binary, 4, 4), [Goal.ratio_at_least(6)]},
      {%{shape(:map, 4, 4) | batch: 32}, [Goal.ratio_at_least(10, 15)]},
      {shape(:map, 64, 64), [Goal.ratio_at_least(12)]},
      {%{shape(:map, 1, 1) | batch: 32}, []},
      # Like for like: what the replaced queues promise their workers, and no more.
      {%{shape(:map, 1, 1) | take: :once}, []},
      {%{shape(:map, 4, 4) | take: :once}, []}
    ]

    matrix =
      for kind <- @kinds, producers <- @producers, workers <- @workers do
        shape(kind, producers, workers)
      end

    for({shape, goals} <- goals, do: Throughput.cell(shape, size.seconds, goals)) ++
      for shape <- matrix -- Enum.map(goals, &elem(&1, 0)), do: Throughput.cell(shape, size.seconds * size.share, [])
  end

  defp shape(kind, producers, workers) do
    %{kind: kind, producers: producers, workers: workers, batch: 1, take: :leased}
  end

  defp memory(size) do
    [
      Memory.cell(:map, size.queued, [Goal.ratio_at_most(0.5)]),
      Memory.cell(:json, size.queued, []),
      # The payload and 96 bytes.
      Memory.cell(:binary, size.queued, [Goal.at_most(256 + 96)]),
      Memory.cell(:binary_4k, div(size.queued, 10), []),
      Memory.total_cell(size.million),
      RequestMemory.in_flight_cell(:map),
      RequestMemory.in_flight_cell(:binary),
      RequestMemory.heap_cell(:map),
      RequestMemory.heap_cell(:binary)
    ]
  end

  defp scaling(size) do
    [
      Schedulers.cell(size.seconds),
      Depth.cell(size.depths, size.operations, :all, [Goal.at_most(1.1)]),
      if(size.deepest, do: Depth.cell([1_000, size.deepest], size.operations, 1, []), else: [])
    ]
  end

  @doc "The cells that the names choose; all if there is no name."
  @spec select([Cell.t()], [String.t()]) :: {:ok, [Cell.t()]} | {:error, String.t()}
  def select(cells, []), do: {:ok, cells}

  def select(cells, names) do
    case Enum.find(names, &(matching(cells, &1) == [])) do
      nil ->
        chosen = Enum.flat_map(names, &matching(cells, &1))
        {:ok, Enum.filter(cells, &(&1 in chosen))}

      name ->
        {:error, "--only #{name}: no table or cell has this name; --list prints them"}
    end
  end

  # "map 1+1" is a cell, and also the beginning of another's name.
  defp matching(cells, name) do
    Enum.find_value(
      [&(to_string(&1.table) == name), &(&1.name == name), &String.contains?(&1.name, name)],
      [],
      fn matches? ->
        with [] <- Enum.filter(cells, matches?), do: nil
      end
    )
  end

  @doc "The names of tables and cells, a line for each table."
  @spec list([Cell.t()]) :: String.t()
  def list(cells) do
    Enum.map_join(@tables, "\n", fn {table, _title, _note} ->
      names = for %{table: ^table, name: name} <- cells, do: name
      "#{table}\n#{Enum.map_join(names, "\n", &"  #{&1}")}"
    end)
  end
end
