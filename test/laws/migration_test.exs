defmodule PaymentQueue.Laws.MigrationTest do
  # Wherever the flag is moved under load, every accepted item is handled exactly once, and every other one was refused.
  # Not async: old queues that stop erase persistent terms, for which the VM looks through all processes, and other tests
  # count what idle ones do.
  use ExUnit.Case

  alias PaymentQueue.Baseline.{EtsQueue, GenServerQueue}
  alias PaymentQueue.MigrationLoad

  @moduletag timeout: 180_000

  @compile {:no_warn_undefined, [:proper, :proper_types]}

  @modes [:legacy, :native, :shadow] ++ for(p <- [1, 25, 50, 75, 100], do: {:percent, p})

  for kind <- [GenServerQueue, EtsQueue] do
    test "random programs of fixed seeds: #{inspect(kind)}" do
      # On a slow machine the workers may leave the drains nothing to move: then some more programs.
      runs =
        Enum.reduce_while(1..100, [], fn seed, runs ->
          program = program(seed, 100)
          run = MigrationLoad.run(unquote(kind), program)
          assert MigrationLoad.complaints(run) == [], "program: #{inspect(program, limit: :infinity)}"
          runs = [run | runs]
          {if(seed >= 10 and idle(runs) == [], do: :halt, else: :cont), runs}
        end)

      assert idle(runs) == []
      for run <- runs, {_, answer} <- run.refused, do: assert(answer == {:error, :queue_full})
    end
  end

  # What none of the programs has made happen.
  defp idle(runs) do
    for {what, count} <- [
          legacy: &Map.get(&1.sides, :legacy, 0),
          native: &Map.get(&1.sides, :native, 0),
          moved: & &1.moved,
          refused: &length(&1.refused)
        ],
        not Enum.any?(runs, &(count.(&1) > 0)),
        do: what
  end

  @tag :proper
  test "any program" do
    property =
      :proper.forall(:proper_types.list(step()), fn program ->
        for kind <- [GenServerQueue, EtsQueue], reduce: true do
          true -> MigrationLoad.complaints(MigrationLoad.run(kind, program)) == []
          false -> false
        end
      end)

    assert :proper.quickcheck(property, [:quiet, numtests: 60, max_size: 60]) == true,
           "counterexample: #{inspect(:proper.counterexample(), limit: :infinity)}"
  end

  defp step do
    :proper_types.frequency([
      {8, :proper_types.oneof(for mode <- @modes, do: {:mode, mode})},
      {6, :drain},
      {1, :restart},
      {1, :crash}
    ])
  end

  # In half of the programs' steps the mode moves; a drain is tried more often than it is allowed.
  defp program(seed, length) do
    {steps, _} =
      Enum.map_reduce(1..length, :rand.seed_s(:exsss, {seed, 5, 6}), fn _, random ->
        {n, random} = :rand.uniform_s(16, random)
        {mode, random} = :rand.uniform_s(length(@modes), random)
        {step(n, Enum.at(@modes, mode - 1)), random}
      end)

    steps
  end

  defp step(n, mode) when n <= 8, do: {:mode, mode}
  defp step(n, _mode) when n <= 14, do: :drain
  defp step(15, _mode), do: :restart
  defp step(16, _mode), do: :crash
end
