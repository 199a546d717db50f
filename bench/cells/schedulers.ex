defmodule PaymentQueue.Bench.Schedulers do
  @moduledoc """
  The throughput of maps, 4 producers and 4 workers, in VMs with 1, 2, 4... schedulers, up to the cores of this machine.
  """

  alias PaymentQueue.Bench.{Cell, ChildVm, Floors, Goal, Throughput}

  @shape %{kind: :map, producers: 4, workers: 4, batch: 1, take: :leased}

  @doc "A cell whose every sample lasts about `seconds` for each number of schedulers."
  @spec cell(seconds :: number()) :: Cell.t()
  def cell(seconds) do
    counts = counts()

    %Cell{
      name: "schedulers",
      table: :scaling,
      timed: false,
      rows:
        for(count <- counts, do: Cell.row(row_name(count), "M items/s", :higher)) ++
          for count <- tl(counts) do
            goals = if count == 2, do: [Goal.at_least(1.7)], else: []
            Cell.row("schedulers #{count} / 1", "×", :higher, ratio: false, goals: goals)
          end,
      measure: fn adapter, nil -> counts |> Enum.map(&in_vm(&1, :rate, [adapter, seconds])) |> with_gains() end,
      floor: %{
        name: "encode + decode + two NIF calls",
        measure: fn -> counts |> Enum.map(&in_vm(&1, :bare, [seconds])) |> with_gains() end
      }
    }
  end

  @doc "The name of the row of so many schedulers: the model reads it."
  @spec row_name(pos_integer()) :: String.t()
  def row_name(count), do: "map 4+4, schedulers: #{count}"

  @doc "The numbers of schedulers that are measured on this machine."
  @spec counts() :: [pos_integer(), ...]
  def counts do
    cores = :erlang.system_info(:logical_processors_available)
    cores = if is_integer(cores), do: cores, else: System.schedulers_online()
    for count <- [1, 2, 4, 8, 16], count == 1 or count <= cores, do: count
  end

  defp with_gains([one | more] = rates), do: rates ++ Enum.map(more, &(&1 / one))

  defp in_vm(count, function, arguments) do
    ChildVm.run(__MODULE__, function, arguments, ["+S", "#{count}:#{count}"])
  end

  @doc "M items/s in this VM; runs in the child."
  @spec rate(module(), number()) :: float()
  def rate(adapter, seconds) do
    per_producer = Throughput.calibrate(adapter, @shape, seconds)
    Throughput.rate(adapter, @shape, per_producer) / 1.0e6
  end

  @doc "The floor in this VM; runs in the child."
  @spec bare(number()) :: float()
  def bare(seconds) do
    Floors.rate(@shape.kind, @shape.producers, @shape.workers, Throughput.floor_items(@shape.kind, seconds)) / 1.0e6
  end
end
