defmodule PaymentQueue.Bench.Goal do
  @moduledoc """
  What a number should reach: the ratio native / ETS, native's own value, or native's share of the floor.

  A goal that is missed is reported and is no failure: speed is measured here, not asserted.
  """

  @enforce_keys [:of, :is, :bound]
  defstruct [:of, :is, :bound, :stretch]

  @type t :: %__MODULE__{
          of: :ratio | :value | :share,
          is: :at_least | :at_most,
          bound: number(),
          stretch: number() | nil
        }

  @type measured :: %{ratio: number() | nil, value: number() | nil, share: number() | nil}
  @type verdict :: :met | :missed | :not_measured

  @doc "The ratio to the ETS queue shall be at least so much; `stretch` is what would be splendid."
  @spec ratio_at_least(number(), number() | nil) :: t()
  def ratio_at_least(bound, stretch \\ nil), do: %__MODULE__{of: :ratio, is: :at_least, bound: bound, stretch: stretch}

  @spec ratio_at_most(number()) :: t()
  def ratio_at_most(bound), do: %__MODULE__{of: :ratio, is: :at_most, bound: bound}

  @spec at_least(number()) :: t()
  def at_least(bound), do: %__MODULE__{of: :value, is: :at_least, bound: bound}

  @spec at_most(number()) :: t()
  def at_most(bound), do: %__MODULE__{of: :value, is: :at_most, bound: bound}

  @doc "The share of the floor, 1.0 being all of it."
  @spec share_at_least(float()) :: t()
  def share_at_least(bound), do: %__MODULE__{of: :share, is: :at_least, bound: bound}

  @spec judge(t(), measured()) :: verdict()
  def judge(%{of: of, is: is, bound: bound}, measured) do
    case Map.fetch!(measured, of) do
      nil -> :not_measured
      value when is == :at_least -> verdict(value >= bound)
      value when is == :at_most -> verdict(value <= bound)
    end
  end

  defp verdict(true), do: :met
  defp verdict(false), do: :missed

  @doc "In words, such as `≥ 8× ets (stretch 10×)`."
  @spec text(t(), unit :: String.t()) :: String.t()
  def text(%{of: :ratio} = goal, _unit), do: "#{sign(goal)} #{goal.bound}× ets#{stretch(goal)}"
  def text(%{of: :value} = goal, unit), do: "#{sign(goal)} #{goal.bound} #{unit}"
  def text(%{of: :share} = goal, _unit), do: "#{sign(goal)} #{round(goal.bound * 100)} % of the floor"

  defp sign(%{is: :at_least}), do: "≥"
  defp sign(%{is: :at_most}), do: "≤"

  defp stretch(%{stretch: nil}), do: ""
  defp stretch(%{stretch: stretch}), do: " (stretch #{stretch}×)"
end
