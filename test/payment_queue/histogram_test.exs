defmodule PaymentQueue.HistogramTest do
  use PaymentQueue.QueueCase, async: true

  alias PaymentQueue.{Histogram, Native}

  @some {110, [{3, 2}, {15, 5}, {63, 1}, {127, 2}]}

  test "counts, and counts below bounds" do
    assert Histogram.count(@some) == 10
    assert Histogram.cumulative(@some, [16, 32, 64, 128, 256]) == [{16, 7}, {32, 7}, {64, 8}, {128, 10}, {256, 10}]
    assert Histogram.cumulative({0, []}, [16]) == [{16, 0}]
  end

  test "percentiles are ends of buckets" do
    assert Histogram.percentiles(@some) == %{p50: 15, p90: 127, p99: 127, p999: 127, max: 127}
    assert Histogram.percentiles({0, []}) == nil
  end

  test "what came between two readings" do
    assert Histogram.between({5, [{3, 1}]}, @some) == {105, [{3, 1}, {15, 5}, {63, 1}, {127, 2}]}
    assert Histogram.between(@some, @some) == {0, []}
  end

  test "agrees with the percentiles of info" do
    queue = queue!()
    {:ok, 100} = PaymentQueue.enqueue_many(Enum.to_list(1..100), queue: queue)

    for _ <- 1..100 do
      {:ok, _, lease} = PaymentQueue.take(queue: queue)
      :ok = PaymentQueue.ack(lease)
    end

    {waits, holds} = Native.histograms(queue)
    info = PaymentQueue.info(queue)
    assert {Histogram.percentiles(waits), Histogram.percentiles(holds)} == {info.wait_us, info.handler_us}
    assert {Histogram.count(waits), Histogram.count(holds)} == {100, 100}
  end

  test "the sum lies between the buckets' bounds" do
    queue = queue!(handler: fn _ -> let_pass(2) end, concurrency: 2)
    {:ok, 20} = PaymentQueue.enqueue_many(Enum.to_list(1..20), queue: queue)
    :ok = PaymentQueue.drain(queue, timeout: 5_000)

    for {sum, buckets} <- Tuple.to_list(Native.histograms(queue)) do
      highest = buckets |> Enum.map(fn {upper, n} -> upper * n end) |> Enum.sum()
      assert sum in round(highest * 0.88 - 20)..highest
    end

    {_, {held, _}} = Native.histograms(queue)
    assert held >= 20 * 2_000
  end

  test "a queue that never was has none" do
    assert Native.histograms(:never_started) == {:error, :queue_unavailable}
    assert Native.state(:never_started) == {:error, :queue_unavailable}
  end
end
