defmodule PaymentQueue.Bench.Statistics do
  @moduledoc "The few order statistics that the benches need."

  @doc "The middle value, or the mean of the two in the middle."
  @spec median([number(), ...]) :: number()
  def median(values) do
    sorted = Enum.sort(values)
    count = length(sorted)
    middle = div(count, 2)

    if rem(count, 2) == 1 do
      Enum.at(sorted, middle)
    else
      (Enum.at(sorted, middle - 1) + Enum.at(sorted, middle)) / 2
    end
  end

  @doc "The smallest value that at least `percent` % of the values do not exceed."
  @spec percentile([number(), ...], number()) :: number()
  def percentile(values, percent) do
    sorted = Enum.sort(values)
    rank = ceil(percent / 100 * length(sorted))
    Enum.at(sorted, max(rank, 1) - 1)
  end
end
