defmodule PaymentQueue.Bench.Model do
  @moduledoc """
  What the throughput of maps, 4 producers and 4 workers, may be on more cores than this machine has. **A model, no
  measurement.**

  It is Gunther's universal scalability law, `X(n) = n · X(1) / (1 + a(n - 1) + b·n(n - 1))`, in which `a` stands for what
  only one core can do at a time and `b` for what cores must tell each other. The contention that was measured between 1 and 2
  schedulers is one number, so it fixes one of the two: all of it as `a` gives the high estimate, all as `b` the low. Where 2
  schedulers gained all they could, both say that `n` cores will, which no machine has ever done.
  """

  alias PaymentQueue.Bench.{Schedulers, Summary}

  @cores [4, 8, 16]

  @type estimate :: %{low: float(), high: float()}
  @type t :: %{note: String.t(), cores: [pos_integer()], queues: [{String.t(), [estimate()]}]}

  @note "A model (universal scalability law) from the contention measured between 1 and 2 schedulers, no measurement: " <>
          "low if all of it is communication between cores, high if all of it is serial work. M items/s, map 4+4."

  @doc "The model for each queue that was measured with 1 and with 2 schedulers; `nil` if none was."
  @spec of([Summary.table()]) :: t() | nil
  def of(tables) do
    rows = for %{name: :scaling, rows: rows} <- tables, row <- rows, into: %{}, do: {row.name, Map.new(row.queues)}

    with %{} = one <- rows[Schedulers.row_name(1)], %{} = two <- rows[Schedulers.row_name(2)] do
      queues =
        for name <- Map.keys(one), one[name] && two[name], do: {name, estimates(one[name].median, two[name].median)}

      %{note: @note, cores: @cores, queues: queues}
    end
  end

  @doc "The estimates for the cores of the model, of the throughputs with 1 and with 2 schedulers."
  @spec estimates(number(), number()) :: [estimate()]
  def estimates(one, two) do
    # 2·X(1)/X(2) = 1 + a + 2b. A gain of more than 2 is luck, not a law.
    contention = max(2 * one / two - 1, 0.0)

    for n <- @cores do
      high = n * one / (1 + contention * (n - 1))
      low = n * one / (1 + contention / 2 * n * (n - 1))
      %{low: low, high: high}
    end
  end
end
