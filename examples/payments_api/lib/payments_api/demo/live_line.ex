defmodule PaymentsApi.Demo.LiveLine do
  @moduledoc """
  One line about the present: rewritten in place on a terminal, else printed once a second when something has changed.

  Latencies are those of the last second.
  """

  alias PaymentsApi.{Histogram, Meter}
  alias PaymentsApi.Demo.Text

  @enforce_keys [:queue, :terminal?, :began_at, :latencies]
  defstruct @enforce_keys ++ [last: nil]

  @type t :: %__MODULE__{}

  @spec new(module(), boolean()) :: t()
  def new(queue, terminal?) do
    %__MODULE__{queue: queue, terminal?: terminal?, began_at: now(), latencies: Meter.latencies()}
  end

  @doc "Prints the line, to be called once a second."
  @spec print(t()) :: t()
  def print(line) do
    latencies = Meter.latencies()
    text = text(line, Histogram.since(latencies, line.latencies))
    write(line, text)
    %{line | latencies: latencies, last: text}
  end

  @doc "Ends the line, so that what follows starts a new one."
  @spec finish(t()) :: :ok
  def finish(%{terminal?: true, last: last}) when last != nil, do: IO.write("\n")
  def finish(_line), do: :ok

  defp text(line, latencies) do
    %{queue_size: depth, in_flight: in_flight} = line.queue.stats()

    Enum.join(
      [
        "accepted #{Text.count(Meter.get(:accepted))}",
        "refused #{Text.count(Meter.get(:refused))}",
        "settled #{Text.count(Meter.get(:settled))}",
        "depth #{Text.count(depth)}",
        "in flight #{in_flight}",
        "killed #{Meter.get(:kills)}",
        "p50 #{Text.duration(Histogram.percentile(latencies, 50))}",
        "p99 #{Text.duration(Histogram.percentile(latencies, 99))}"
      ],
      "  "
    )
  end

  # On a terminal without line wrap, so that a narrow one shows one line and not many.
  # The time is not part of the text: on an idle server nothing changes, and nothing is printed.
  defp write(%{terminal?: true} = line, text), do: IO.write(["\r\e[2K\e[?7l", elapsed(line), text, "\e[?7h"])
  defp write(%{last: text}, text), do: :ok
  defp write(line, text), do: IO.puts([elapsed(line), text])

  defp elapsed(line), do: String.pad_leading("#{div(now() - line.began_at + 500, 1_000)} s  ", 7)

  defp now, do: System.monotonic_time(:millisecond)
end
