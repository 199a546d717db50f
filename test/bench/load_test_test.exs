# wrk, mochiweb and jiffy are no dependencies: the test uses them where they are installed.
reason =
  case PaymentQueue.Bench.LoadTest.available() do
    :ok -> nil
    {:skip, reason} -> reason
  end

if reason, do: IO.puts("skipped, because #{reason}: PaymentQueue.Bench.LoadTestTest")

defmodule PaymentQueue.Bench.LoadTestTest do
  # Compiles the example's modules and starts VMs of its own.
  use ExUnit.Case, async: false

  alias PaymentQueue.Bench.{GenServerAdapter, LoadTest, NativeAdapter}

  @moduletag skip: reason || false
  @moduletag timeout: 300_000

  defp measure(load, adapter) do
    cell = LoadTest.cell(load, 1)
    numbers = cell.measure.(adapter, cell.prepare.(adapter))
    assert length(numbers) == length(cell.rows)
    cell.rows |> Enum.map(& &1.name) |> Enum.zip(numbers) |> Map.new()
  end

  test "the ordinary load is accepted, and nothing is lost" do
    numbers = measure(:ordinary, GenServerAdapter)
    assert numbers["ordinary: requests/s"] > 0
    assert numbers["ordinary: refused with 503"] == 0
    assert numbers["ordinary: accepted and lost"] == 0
  end

  test "above saturation most is refused, and nothing that was accepted is lost" do
    numbers = measure(:saturated, NativeAdapter)
    assert numbers["saturated: refused with 503"] > 0
    assert numbers["saturated: accepted and lost"] == 0
    assert numbers["saturated: peak memory"] > 0
  end

  test "the floor answers without a queue" do
    cell = LoadTest.cell(:ordinary, 1)
    assert [per_second | _] = cell.floor.measure.()
    assert per_second > 0
  end
end
