defmodule PaymentQueue.Bench.Runner do
  @moduledoc """
  Interleaved rounds: every round measures every cell with every queue and its floor, in an order that rotates from round to
  round, so that a slow minute of the machine falls on all of them.
  """

  alias PaymentQueue.Bench.{Cell, Progress}

  @typedoc "Who is measured: a queue's adapter, or the floor beside them."
  @type subject :: module() | :floor

  @typedoc "The numbers of one row, a list of rounds for each subject."
  @type result :: {Cell.t(), Cell.row(), %{subject() => [number() | nil, ...]}}

  @typedoc "What could not be measured on this machine, and why."
  @type skip :: {Cell.t(), reason :: String.t()}

  @spec run([Cell.t()], [module()], rounds :: pos_integer(), (Progress.step() -> any())) :: {[result()], [skip()]}
  def run(cells, adapters, rounds, notify) do
    steps = steps(cells, adapters, rounds)
    total = length(steps)

    steps
    |> Enum.with_index(1)
    |> Enum.reduce({%{}, %{}}, fn {step, number}, taken ->
      notify.(%{number: number, total: total, what: describe(step, rounds)})
      :erlang.garbage_collect()
      take(step, taken)
    end)
    |> then(fn {_prepared, numbers} -> collect(cells, adapters, numbers) end)
  end

  @doc "How many steps `run/4` will notify of."
  @spec count([Cell.t()], [module()], rounds :: pos_integer()) :: non_neg_integer()
  def count(cells, adapters, rounds), do: cells |> steps(adapters, rounds) |> length()

  defp steps(cells, adapters, rounds) do
    warm_ups = for cell <- cells, adapter <- queues(cell, adapters), do: {:warm_up, cell, adapter}
    warm_ups ++ for round <- 1..rounds, step <- samples(cells, adapters, round), do: step
  end

  defp queues(%{adapters: :all}, adapters), do: adapters
  defp queues(%{adapters: some}, adapters), do: Enum.filter(adapters, &(&1 in some))

  defp subjects(cell, adapters), do: queues(cell, adapters) ++ if(cell.floor, do: [:floor], else: [])

  defp samples(cells, adapters, round) do
    # `:all` is an atom, and any number sorts before it.
    for cell <- cells, round <= cell.rounds, subject <- rotate(subjects(cell, adapters), round) do
      {round, cell, subject}
    end
  end

  defp rotate(list, by) do
    {front, back} = Enum.split(list, rem(by, length(list)))
    back ++ front
  end

  defp take({:warm_up, cell, adapter}, {prepared, numbers}) do
    {Map.put(prepared, {cell.name, adapter}, cell.prepare.(adapter)), numbers}
  end

  defp take({_round, cell, :floor}, {prepared, numbers}) do
    {prepared, add(numbers, {cell.name, :floor}, cell.floor.measure.())}
  end

  defp take({_round, cell, adapter}, {prepared, numbers}) do
    key = {cell.name, adapter}
    {prepared, add(numbers, key, cell.measure.(adapter, prepared[key]))}
  end

  defp add(numbers, key, sample), do: Map.update(numbers, key, [sample], &[sample | &1])

  defp collect(cells, adapters, numbers) do
    {skipped, measured} = Enum.split_with(cells, &skip_reason(&1, adapters, numbers))
    results = for cell <- measured, result <- results(cell, adapters, numbers), do: result
    {results, Enum.map(skipped, &{&1, skip_reason(&1, adapters, numbers)})}
  end

  defp skip_reason(cell, adapters, numbers) do
    Enum.find_value(subjects(cell, adapters), fn subject ->
      with {:skip, reason} <- hd(numbers[{cell.name, subject}]), do: reason, else: (_ -> nil)
    end)
  end

  defp results(cell, adapters, numbers) do
    for {row, index} <- Enum.with_index(cell.rows) do
      values =
        for subject <- subjects(cell, adapters) do
          {subject, numbers[{cell.name, subject}] |> Enum.reverse() |> Enum.map(&Enum.at(&1, index))}
        end

      {cell, row, Map.new(values)}
    end
  end

  defp describe({:warm_up, cell, adapter}, _rounds), do: "warm-up: #{cell.name}, #{adapter.name()}"
  defp describe({round, cell, subject}, rounds), do: "round #{round} of #{rounds}: #{cell.name}, #{name(subject)}"

  defp name(:floor), do: "floor"
  defp name(adapter), do: adapter.name()
end
