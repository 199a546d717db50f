defmodule PaymentQueue.Bench.WrongResult do
  @moduledoc "A cell's own check failed: the bench ends with status 1, for a number that comes from wrong work is none."
  defexception [:message]
end

defmodule PaymentQueue.Bench.Cell do
  @moduledoc """
  One thing that is measured for each queue in each round.

  `prepare` runs once per queue before the first round: it warms up and calibrates, and its result is given to every
  `measure`. `measure` checks what it did, raises `PaymentQueue.Bench.WrongResult` if that was wrong, and returns one number
  for each of the `rows` (`nil` where there is none for this queue or machine). `timed` is false where a busy machine does no
  harm.
  """

  alias PaymentQueue.Bench.WrongResult

  @enforce_keys [:name, :rows, :measure]
  defstruct [:name, :rows, :measure, prepare: &__MODULE__.nothing/1, timed: true]

  @typedoc """
  What the goal is about: the ratio native / ETS or the native value itself. `ratio: false`: the ratio says nothing here.
  """
  @type row :: %{
          required(:name) => String.t(),
          required(:unit) => String.t(),
          optional(:ratio) => boolean(),
          optional(:goal) => {:ratio | :value, :at_least | :at_most | :below, number()}
        }

  @type t :: %__MODULE__{
          name: String.t(),
          rows: [row()],
          prepare: (adapter :: module() -> term()),
          measure: (adapter :: module(), prepared :: term() -> [number() | nil]),
          timed: boolean()
        }

  @doc "For cells that need no calibration."
  @spec nothing(module()) :: nil
  def nothing(_adapter), do: nil

  @doc "Ends the bench unless `expected` is what came out."
  @spec check!(String.t(), term(), term()) :: :ok
  def check!(_what, same, same), do: :ok

  def check!(what, expected, actual) do
    raise WrongResult, "#{what}: expected #{inspect(expected)}, got #{inspect(actual)}"
  end

  @doc "A queue that was drained must say so."
  @spec check_drained!(String.t(), module(), term()) :: :ok
  def check_drained!(what, adapter, handle) do
    check!("#{what}: stats at the end", %{queue_size: 0, in_flight: 0}, adapter.stats(handle))
  end
end
