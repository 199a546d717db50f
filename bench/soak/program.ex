defmodule PaymentQueue.Soak.Program do
  @moduledoc """
  The program of an operator: an endless sequence of random steps, the same for the same seed and kind of queue. What the
  machine makes of it, which process runs when, is not repeated.
  """

  import Bitwise

  alias PaymentQueue.Soak.{Kind, Place}

  @type step ::
          {:wait, pos_integer()}
          | {:look, atom()}
          | {:kill, :consumers | :callers, pos_integer()}
          | {:kill, :tree | :pool}
          | {:scale, non_neg_integer()}
          | {:configure, keyword()}
          | {:pause, pos_integer()}
          | {:drain, pos_integer(), :resume | :restart}
          | :restart
          | :purge
          | {:requeue_dead, pos_integer() | :all}
          | {:dequeue, pos_integer()}

  @type state :: {:rand.state(), Kind.t()}

  @most_consumers 16

  @doc "Where the program of this kind begins."
  @spec start(non_neg_integer(), Kind.t()) :: state()
  def start(seed, kind), do: {:rand.seed_s(:exsss, :erlang.phash2({seed, kind.name}, bsl(1, 32))), kind}

  @doc "The next step."
  @spec next(state()) :: {step(), state()}
  def next({rand, kind}) do
    {dice, rand} = :rand.uniform_s(1_000, rand)
    {step, rand} = step(dice, kind, rand)
    {step, {rand, kind}}
  end

  defp step(dice, _kind, rand) when dice <= 400, do: with_number(rand, 80, &{:wait, &1})

  defp step(dice, _kind, rand) when dice <= 520 do
    looks = [:stats, :info, :peek, :dead_letters, :health, :prometheus, :snapshot, :queues, :flush]
    with_number(rand, length(looks), &{:look, Enum.at(looks, &1 - 1)})
  end

  defp step(dice, _kind, rand) when dice <= 680, do: with_number(rand, 3, &{:kill, :consumers, &1})
  defp step(dice, _kind, rand) when dice <= 710, do: with_number(rand, 2, &{:kill, :callers, &1})
  defp step(dice, _kind, rand) when dice <= 770, do: with_number(rand, @most_consumers + 1, &{:scale, &1 - 1})
  defp step(dice, kind, rand) when dice <= 850, do: configure(kind, rand)
  defp step(dice, _kind, rand) when dice <= 900, do: with_number(rand, 250, &{:pause, &1})
  defp step(dice, _kind, rand) when dice <= 920, do: with_number(rand, 50, &{:requeue_dead, &1})
  defp step(dice, _kind, rand) when dice <= 930, do: {{:requeue_dead, :all}, rand}
  defp step(dice, _kind, rand) when dice <= 950, do: with_number(rand, 300, &{:drain, &1, :resume})
  defp step(dice, _kind, rand) when dice <= 960, do: with_number(rand, 300, &{:drain, &1, :restart})
  defp step(dice, _kind, rand) when dice <= 965, do: {:restart, rand}
  defp step(dice, _kind, rand) when dice <= 975, do: {{:kill, :tree}, rand}
  defp step(dice, _kind, rand) when dice <= 980, do: {{:kill, :pool}, rand}
  defp step(dice, _kind, rand) when dice <= 998, do: with_number(rand, 10, &{:dequeue, &1})

  # Rarely: in such a round the ledger cannot know which items were removed.
  defp step(_dice, kind, rand),
    do: with_number(rand, 8, &if(&1 == 1 and Place.purge_spares_in_flight?(kind), do: :purge, else: {:wait, &1}))

  defp configure(%{start: start}, rand) do
    {which, rand} = :rand.uniform_s(4, rand)

    case {which, start[:rate_limit]} do
      {1, _} -> with_number(rand, 16, &{:configure, [max_bytes: &1 * 1_048_576]})
      {2, _} -> with_number(rand, 40, &{:configure, [capacity: &1]})
      {3, {_n, ms}} -> with_number(rand, 600, &{:configure, [rate_limit: {&1 + 20, ms}]})
      {_, _} -> with_number(rand, 3_000, &{:configure, [capacity: &1]})
    end
  end

  defp with_number(rand, most, step) do
    {n, rand} = :rand.uniform_s(most, rand)
    {step.(n), rand}
  end
end
