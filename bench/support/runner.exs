defmodule PaymentQueue.Bench.Runner do
  @moduledoc """
  Interleaved rounds: every round measures every cell with every queue, in an order that rotates from round to round, so that
  a slow minute of the machine falls on all of them.
  """

  alias PaymentQueue.Bench.Cell

  @typedoc "The numbers of one row, a list of rounds for each queue."
  @type result :: {Cell.row(), %{(adapter :: module()) => [number() | nil, ...]}}

  @spec run([Cell.t()], [module()], rounds :: pos_integer(), progress :: (String.t() -> any())) :: [result()]
  def run(cells, adapters, rounds, progress) do
    prepared =
      for cell <- cells, adapter <- adapters, into: %{} do
        progress.("warm-up: #{cell.name}, #{adapter.name()}")
        {{cell.name, adapter}, cell.prepare.(adapter)}
      end

    samples =
      for round <- 1..rounds, cell <- cells, adapter <- rotate(adapters, round) do
        progress.("round #{round} of #{rounds}: #{cell.name}, #{adapter.name()}")
        :erlang.garbage_collect()
        {{cell.name, adapter}, cell.measure.(adapter, prepared[{cell.name, adapter}])}
      end

    by_cell = Enum.group_by(samples, fn {key, _} -> key end, fn {_, numbers} -> numbers end)
    for cell <- cells, result <- results(cell, adapters, by_cell), do: result
  end

  defp results(cell, adapters, by_cell) do
    for {row, index} <- Enum.with_index(cell.rows) do
      values = for adapter <- adapters, do: {adapter, Enum.map(by_cell[{cell.name, adapter}], &Enum.at(&1, index))}
      {row, Map.new(values)}
    end
  end

  defp rotate(list, by) do
    {front, back} = Enum.split(list, rem(by, length(list)))
    back ++ front
  end
end
