defmodule PaymentQueue.Migration.ReportTest do
  # What the comparison of the two sides says: that its figures are those of the calls, and how it is printed.
  use ExUnit.Case, async: true

  alias PaymentQueue.Migration.{Recorder, Report}

  # Seconds, so long that what a slow machine adds between two lines does not show.
  defp call(recorder, seconds, outcome) do
    _ = Recorder.start(recorder)
    ago = System.convert_time_unit(seconds, :second, :native)
    Recorder.stop(recorder, System.monotonic_time() - ago, outcome)
  end

  test "percentiles are of the calls, in microseconds, never too low and at most 9 % too high" do
    recorder = Recorder.new()
    for _ <- 1..60, do: call(recorder, 100, :accepted)
    for _ <- 1..36, do: call(recorder, 200, :refused)
    for _ <- 1..3, do: call(recorder, 400, :error)
    call(recorder, 800, :accepted)
    _ = Recorder.start(recorder)
    summary = Recorder.summary(recorder, :start)
    assert %{calls: 101, accepted: 61, refused: 36, errors: 3, unfinished: 1} = summary

    for {key, seconds} <- [p50_us: 100, p95_us: 200, p99_us: 400, max_us: 800] do
      # A tenth and a little more, for what passes between two lines.
      assert summary[key] >= seconds * 1_000_000 and summary[key] < seconds * 1_100_000, "#{key}: #{summary[key]}"
    end
  end

  test "what takes longer than the last bucket is counted there, and what takes no time in the first" do
    recorder = Recorder.new()
    call(recorder, 100_000, :accepted)
    Recorder.stop(recorder, System.monotonic_time() + 1_000_000_000, :accepted)
    summary = Recorder.summary(recorder, :start)
    assert summary.p50_us == 0.0
    assert summary.max_us > 1_000_000_000
  end

  test "the table shows every figure under its name" do
    side = fn n ->
      [:calls, :accepted, :refused, :errors, :unfinished, :p50_us, :p95_us, :p99_us, :max_us, :queue_size, :in_flight]
      |> Enum.with_index(n)
      |> Map.new(fn {key, n} -> {key, if(key in [:p50_us, :p95_us, :p99_us, :max_us], do: n + 0.5, else: n)} end)
    end

    report = %Report{
      name: :pay,
      mode: {:percent, 5},
      since: ~U[2026-01-01 00:00:00.000Z],
      at: ~U[2026-01-01 00:01:00.000Z],
      legacy: side.(100),
      native: side.(200),
      shadow: %{side.(300) | p50_us: nil, queue_size: nil},
      agreement: %{both_accepted: 1, only_legacy: 2, only_native: 3, neither: 4},
      in_hand: 1
    }

    assert "#{report}" ==
             String.trim_trailing("""
             migration :pay, mode {:percent, 5}, 2026-01-01 00:00:00.000Z to 2026-01-01 00:01:00.000Z
                                 legacy        native        shadow
             calls                  100           200           300
             accepted               101           201           301
             refused                102           202           302
             errors                 103           203           303
             unfinished             104           204           304
             p50 us               105.5         205.5             -
             p95 us               106.5         206.5         306.5
             p99 us               107.5         207.5         307.5
             max us               108.5         208.5         308.5
             queue size             109           209             -
             in flight              110           210           310
             of the calls to both: 1 accepted by both, 2 by legacy alone, 3 by native alone, 4 by neither
             in the hands of the drain: 1
             """)
  end
end
