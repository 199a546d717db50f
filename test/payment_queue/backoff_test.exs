defmodule PaymentQueue.BackoffTest do
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog

  alias PaymentQueue.Backoff

  defp new!(opts) do
    {:ok, backoff} = Backoff.new(opts)
    backoff
  end

  test "doubles up to the maximum, for any attempt" do
    backoff = new!(min: 100, max: 60_000, jitter: 0)

    assert Enum.map(1..11, &Backoff.delay(backoff, &1)) == [
             100,
             200,
             400,
             800,
             1600,
             3200,
             6400,
             12_800,
             25_600,
             51_200,
             60_000
           ]

    assert Backoff.delay(backoff, 65_535) == 60_000
    assert Backoff.delay(new!(min: 0, max: 0), 65_535) == 0
  end

  test "jitter shortens by at most its share, and spreads" do
    backoff = new!(min: 1_000, max: 1_000, jitter: 0.2)
    delays = for _ <- 1..500, do: Backoff.delay(backoff, 1)
    assert Enum.all?(delays, &(&1 in 800..1_000))
    assert length(Enum.uniq(delays)) > 50
  end

  test "defaults" do
    assert Backoff.delay(new!([]), 1) in 80..100
    assert Backoff.delay(new!([]), 1_000) in 48_000..60_000
  end

  test "a function of the attempt; a broken one is replaced and logged" do
    assert Backoff.delay(new!(&(&1 * 7)), 3) == 21

    for broken <- [fn _ -> raise "no" end, fn _ -> -1 end, fn _ -> :soon end, fn _ -> throw(:no) end] do
      log = capture_log(fn -> assert Backoff.delay(new!(broken), 1) in 80..100 end)
      assert log =~ "backoff function"
    end
  end
end
