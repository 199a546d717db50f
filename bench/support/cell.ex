defmodule PaymentQueue.Bench.Cell do
  @moduledoc """
  One thing that is measured for each queue in each round.

  `prepare` runs once per queue before the first round: it warms up and calibrates, and its result is given to every
  `measure`. `measure` checks what it did, raises `PaymentQueue.Bench.WrongResult` if that was wrong, and returns one number
  for each of the `rows` (`nil` where there is none for this queue or machine), or `{:skip, reason}` where the machine lacks
  something.

  The `floor` is the same work without a queue, measured in the same rounds: what no queue could be faster than.
  """

  alias PaymentQueue.Bench.Goal

  @enforce_keys [:name, :table, :rows, :measure]
  defstruct [
    :name,
    :table,
    :rows,
    :measure,
    prepare: &__MODULE__.nothing/1,
    floor: nil,
    adapters: :all,
    rounds: :all,
    timed: true
  ]

  @typedoc """
  `better`: whether more or less of it is wanted. `ratio: false`: the ratio to the ETS queue says nothing here.
  """
  @type row :: %{
          name: String.t(),
          unit: String.t(),
          better: :higher | :lower,
          ratio: boolean(),
          goals: [Goal.t()]
        }

  @type numbers :: [number() | nil] | {:skip, reason :: String.t()}

  @typedoc """
  `adapters`: the queues that are measured, if not all. `rounds`: at most so many, where one sample is long or hardly varies.
  `timed: false`: a busy machine does no harm, or the cell itself keeps other processes busy.
  """
  @type t :: %__MODULE__{
          name: String.t(),
          table: atom(),
          rows: [row()],
          prepare: (adapter :: module() -> term()),
          measure: (adapter :: module(), prepared :: term() -> numbers()),
          floor: nil | %{name: String.t(), measure: (() -> numbers())},
          adapters: :all | [module()],
          rounds: :all | pos_integer(),
          timed: boolean()
        }

  @doc "For cells that need no calibration."
  @spec nothing(module()) :: nil
  def nothing(_adapter), do: nil

  @doc "A row. Options: `ratio:` (default true) and `goals:`."
  @spec row(String.t(), String.t(), :higher | :lower, keyword()) :: row()
  def row(name, unit, better, opts \\ []) do
    Map.merge(%{name: name, unit: unit, better: better, ratio: true, goals: []}, Map.new(opts))
  end
end
