defmodule PaymentQueue.Migration.Report do
  @moduledoc """
  What both sides answered and how fast, from `PaymentQueue.Migration.report/1`. As text it is a table:

      IO.puts(PaymentQueue.Migration.report())

  | field | |
  |---|---|
  | `:name`, `:mode` | of the migration |
  | `:since`, `:at` | the time it covers |
  | `:legacy`, `:native` | one map for each side, of the calls that were meant for it |
  | `:shadow` | the same for the copies of shadow mode |
  | `:agreement` | what the two sides said to the same call in shadow mode: how often `:both_accepted`, `:only_legacy`, `:only_native`, `:neither` |
  | `:in_hand` | items that a drain has taken from the legacy queue and has not found a place for: 0 or 1 |

  A side's map:

  | key | |
  |---|---|
  | `:calls`, `:accepted`, `:refused`, `:errors` | numbers; an error is a raise, an exit, or an answer that `PaymentQueue.Migration.Legacy` does not know |
  | `:unfinished` | calls that have not come back, since the start; callers killed in a call stay among them |
  | `:p50_us`, `:p95_us`, `:p99_us`, `:max_us` | how long a call took, in microseconds, at most 9 % too high; nil without calls |
  | `:queue_size`, `:in_flight` | the queue's own statistics now; nil where it did not answer |
  """

  alias PaymentQueue.Migration.{InHand, Legacy, Mode, Recorder, Route}

  @enforce_keys [:name, :mode, :since, :at, :legacy, :native, :shadow, :agreement, :in_hand]
  defstruct @enforce_keys

  @type side :: %{
          calls: non_neg_integer(),
          accepted: non_neg_integer(),
          refused: non_neg_integer(),
          errors: non_neg_integer(),
          unfinished: non_neg_integer(),
          p50_us: float() | nil,
          p95_us: float() | nil,
          p99_us: float() | nil,
          max_us: float() | nil,
          queue_size: non_neg_integer() | nil,
          in_flight: non_neg_integer() | nil
        }

  @type t :: %__MODULE__{
          name: atom(),
          mode: PaymentQueue.Migration.mode(),
          since: DateTime.t(),
          at: DateTime.t(),
          legacy: side(),
          native: side(),
          shadow: side(),
          agreement: %{
            both_accepted: non_neg_integer(),
            only_legacy: non_neg_integer(),
            only_native: non_neg_integer(),
            neither: non_neg_integer()
          },
          in_hand: non_neg_integer()
        }

  @doc false
  @spec new(Route.t(), :start | :mode) :: t()
  def new(route, since) do
    began = if since == :mode, do: Route.changed_at(route), else: route.started_at
    side = fn name, depth -> Map.merge(Recorder.summary(Map.fetch!(route.recorders, name), since), depth) end

    %__MODULE__{
      name: route.name,
      mode: Mode.decode(Route.mode(route)),
      since: DateTime.from_unix!(began, :millisecond),
      at: DateTime.from_unix!(System.os_time(:millisecond), :millisecond),
      legacy: side.(:legacy, legacy_depth(route.legacy)),
      native: side.(:native, native_depth(route.queue)),
      shadow: side.(:shadow, native_depth(route.shadow)),
      agreement: Route.agreement(route, since),
      in_hand: InHand.count(route)
    }
  end

  @unknown %{queue_size: nil, in_flight: nil}

  defp legacy_depth(module) do
    case Legacy.stats(module) do
      {:ok, stats} -> stats
      {:error, _} -> @unknown
    end
  end

  defp native_depth(queue) do
    case PaymentQueue.Native.stats(queue) do
      %{} = stats -> stats
      {:error, :queue_unavailable} -> @unknown
    end
  end

  @rows [
    calls: "calls",
    accepted: "accepted",
    refused: "refused",
    errors: "errors",
    unfinished: "unfinished",
    p50_us: "p50 us",
    p95_us: "p95 us",
    p99_us: "p99 us",
    max_us: "max us",
    queue_size: "queue size",
    in_flight: "in flight"
  ]

  @doc false
  @spec table(t()) :: String.t()
  def table(report) do
    rows = for {key, label} <- @rows, do: line(label, Enum.map([:legacy, :native, :shadow], &cell(report, &1, key)))

    Enum.join(
      [
        "migration #{inspect(report.name)}, mode #{inspect(report.mode)}, #{report.since} to #{report.at}",
        line("", ["legacy", "native", "shadow"])
      ] ++ rows ++ agreement(report.agreement) ++ in_hand(report.in_hand),
      "\n"
    )
  end

  defp cell(report, side, key) do
    case report |> Map.fetch!(side) |> Map.fetch!(key) do
      nil -> "-"
      number when is_float(number) -> :erlang.float_to_binary(number, decimals: 1)
      number -> Integer.to_string(number)
    end
  end

  defp line(label, cells), do: String.pad_trailing(label, 12) <> Enum.map_join(cells, &String.pad_leading(&1, 14))

  defp agreement(%{both_accepted: 0, only_legacy: 0, only_native: 0, neither: 0}), do: []

  defp agreement(counts) do
    [
      "of the calls to both: #{counts.both_accepted} accepted by both, #{counts.only_legacy} by legacy alone, " <>
        "#{counts.only_native} by native alone, #{counts.neither} by neither"
    ]
  end

  defp in_hand(0), do: []
  defp in_hand(n), do: ["in the hands of the drain: #{n}"]

  defimpl String.Chars do
    defdelegate to_string(report), to: PaymentQueue.Migration.Report, as: :table
  end
end
