defmodule PaymentQueue.Top.Text do
  @moduledoc false
  # Two looks at a node as lines of text, with ANSI colours where something wants attention.

  alias PaymentQueue.Snapshot

  # A title, its width (to the left: names, to the right: numbers), and what it shows.
  @columns [
    {"STATE", 8, :left},
    {"WAITING", 9, :right},
    {"IN FLIGHT", 10, :right},
    {"FULL", 6, :right},
    {"IN/S", 8, :right},
    {"DONE/S", 8, :right},
    {"REFUSED/S", 10, :right},
    {"WAIT 50%", 10, :right},
    {"99%", 9, :right},
    {"HANDLER 99%", 12, :right},
    {"WORKERS", 9, :right},
    {"DEAD", 6, :right}
  ]

  @doc "The lines, without their ends."
  @spec render(PaymentQueue.Top.look(), PaymentQueue.Top.look()) :: [iodata()]
  def render(look, before) do
    earlier = Map.new(before.queues, &{&1.queue, &1})
    changes = for snapshot <- look.queues, do: {snapshot, change(earlier[snapshot.queue], snapshot)}
    [title(look), "" | table(changes)] ++ detail(look, changes)
  end

  defp change(nil, _later), do: nil
  defp change(earlier, later), do: Snapshot.change(earlier, later)

  defp title(%{node: node, at: at, queues: queues}) do
    time = at |> DateTime.truncate(:second) |> DateTime.to_iso8601()

    [
      bold("PaymentQueue"),
      " on #{node}   #{time}   #{length(queues)} #{if length(queues) == 1, do: "queue", else: "queues"}"
    ]
  end

  defp table([]), do: ["No queue has been started there yet."]

  defp table(changes) do
    width = changes |> Enum.map(fn {%{queue: queue}, _} -> String.length(name(queue)) end) |> Enum.max() |> max(5)

    titles = Enum.map(@columns, fn {title, width, side} -> [?\s, pad(title, width, side)] end)
    [bold([pad("QUEUE", width, :left), titles]) | Enum.map(changes, &row(&1, width))]
  end

  defp row({%{queue: queue, info: info, workers: workers}, change}, width) do
    cells = [
      to_string(info.state),
      count(info.queue_size),
      count(info.in_flight),
      info |> Snapshot.full() |> percent(),
      rate(change[:enqueued]),
      rate(change[:settled]),
      rate(change[:rejected_full]),
      duration(change[:wait_us][:p50]),
      duration(change[:wait_us][:p99]),
      duration(change[:handler_us][:p99]),
      workers(workers),
      count(info.dead)
    ]

    cells =
      Enum.zip_with(@columns, cells, fn {title, width, side}, cell ->
        [?\s, cell |> pad(width, side) |> colour(title, cell)]
      end)

    [pad(name(queue), width, :left), cells]
  end

  defp detail(%{shown: nil}, _changes), do: []

  defp detail(%{shown: shown, dead: dead}, changes) do
    {%{info: info}, change} = Enum.find(changes, fn {snapshot, _} -> snapshot.queue == shown end)

    ["", bold(name(shown))] ++
      Enum.map(facts(info, change), fn {name, fact} -> ["  ", pad(name, 10, :left), fact] end) ++
      Enum.map(dead, fn letter ->
        "             #{DateTime.truncate(letter.died_at, :second)}  attempts #{letter.attempts}  #{letter.reason}"
      end)
  end

  defp facts(info, change) do
    [
      {"wait", times(change[:wait_us])},
      {"handler", times(change[:handler_us])},
      {"waiting",
       "oldest #{info.oldest_ms |> us() |> duration()}, #{count(info.scheduled)} scheduled, room for #{count(info.capacity)}"},
      {"consumers", "#{count(info.consumers)}, of which #{count(info.parked)} parked"},
      {"memory", "#{bytes(info.memory)}, payload #{bytes(info.bytes)} of #{bytes(info.max_bytes)}"},
      {"so far",
       "#{count(info.enqueued)} accepted, #{count(info.settled)} done, #{count(info.redelivered)} came back, " <>
         "#{count(info.rejected_full)} refused, #{count(info.purged)} purged"},
      {"dead", "#{count(info.dead)} kept, #{count(info.dead_dropped)} dropped"}
    ]
  end

  defp times(nil), do: "–"

  defp times(us),
    do: "median #{duration(us.p50)}, 90% #{duration(us.p90)}, 99% #{duration(us.p99)}, longest #{duration(us.max)}"

  # On one line, whatever is in it, and no orders to the terminal.
  defp name(queue), do: queue |> Snapshot.label() |> String.replace(~r/[[:cntrl:]]/u, "?")

  # --- numbers ---------------------------------------------------------------------------------------------------------

  defp count(nil), do: "–"
  defp count(n) when n < 1_000_000, do: n |> Integer.to_string() |> String.replace(~r/\B(?=(\d{3})+$)/, ",")
  defp count(n), do: "#{Float.round(n / 1_000_000, 1)}M"

  defp percent(nil), do: "–"
  defp percent(n), do: "#{n}%"

  defp us(nil), do: nil
  defp us(ms), do: ms * 1_000

  defp rate(nil), do: "–"
  defp rate(n) when n < 10, do: n |> Float.round(1) |> Float.to_string() |> String.replace_suffix(".0", "")
  defp rate(n), do: n |> round() |> count()

  defp duration(nil), do: "–"
  defp duration(us), do: scaled(us, [{"µs", 1_000}, {"ms", 1_000}, {"s", 60}, {"min", 60}, {"h", 24}, {"d", :infinity}])

  defp bytes(nil), do: "–"
  defp bytes(n), do: scaled(n, [{"B", 1_024}, {"KiB", 1_024}, {"MiB", 1_024}, {"GiB", :infinity}])

  # `:infinity` sorts after every number.
  defp scaled(n, [{unit, next} | _]) when n < next, do: "#{if is_float(n), do: Float.round(n, 1), else: n} #{unit}"
  defp scaled(n, [{_, next} | units]), do: scaled(n / next, units)

  defp workers(nil), do: "–"
  defp workers(%{target: n, running: n}), do: count(n)
  defp workers(%{target: target, running: running}), do: "#{count(running)}/#{count(target)}"

  defp pad(text, width, :left), do: String.pad_trailing(text, width)
  defp pad(text, width, :right), do: String.pad_leading(text, width)

  # What is coloured is also said in words or numbers.
  defp colour(padded, "STATE", "paused"), do: ["\e[33m", padded, "\e[0m"]
  defp colour(padded, "STATE", state) when state in ["closed", "offline"], do: ["\e[31m", padded, "\e[0m"]

  defp colour(padded, title, cell) when title in ["REFUSED/S", "DEAD"] and cell not in ["0", "–"],
    do: ["\e[31m", padded, "\e[0m"]

  defp colour(padded, _title, _cell), do: padded

  defp bold(text), do: ["\e[1m", text, "\e[0m"]
end
