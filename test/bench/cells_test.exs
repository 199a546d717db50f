defmodule PaymentQueue.Bench.CellsTest do
  # The adapters' queues have names of their own, one each.
  use ExUnit.Case, async: false

  alias PaymentQueue.Bench.{
    Adapter,
    BackPressure,
    ChildVm,
    Depth,
    EnqueueOnly,
    EtsAdapter,
    Features,
    FloorCosts,
    Latency
  }

  alias PaymentQueue.Bench.{
    Memory,
    NativeAdapter,
    RequestMemory,
    Schedulers,
    Steps,
    Throughput,
    TimeInQueue,
    WakeUp,
    WrongResult
  }

  alias PaymentQueue.{ChangingAdapter, DoublingAdapter, LosingAdapter}

  @faulty [LosingAdapter, DoublingAdapter, ChangingAdapter]

  defp shape(overrides) do
    Map.merge(%{kind: :map, producers: 2, workers: 2, batch: 1, take: :leased}, Map.new(overrides))
  end

  defp cells do
    [
      Throughput.cell(shape([]), 0.01, []),
      Throughput.cell(shape(workers: 1, kind: :binary), 0.01, []),
      Throughput.cell(shape(batch: 8), 0.01, []),
      Throughput.cell(shape(take: :once), 0.01, []),
      Throughput.cell(shape(kind: :binary_64k, producers: 3), 0.01, []),
      EnqueueOnly.cell(:map, 3, 0.01),
      EnqueueOnly.cell(:binary_64k, 2, 0.01),
      Steps.cell(2),
      Latency.cell(0, 2_000),
      Latency.cell(2, 2_000),
      TimeInQueue.cell(:paced, 2_000),
      TimeInQueue.cell(:saturated, 2_000),
      WakeUp.cell(5),
      RequestMemory.heap_cell(:map),
      BackPressure.refusal_cell(2_000),
      BackPressure.fairness_cell(50),
      BackPressure.bound_cell(2, [NativeAdapter]),
      FloorCosts.cell(100)
    ]
  end

  test "every cell measures every queue, and its floor, and finds the result right" do
    for cell <- cells(), cell.adapters != [], adapter <- Adapter.all() do
      numbers = cell.measure.(adapter, cell.prepare.(adapter))
      assert length(numbers) == length(cell.rows), "#{cell.name}, #{adapter.name()}: #{inspect(numbers)}"
      assert Enum.all?(numbers, &(is_number(&1) or &1 == nil))
    end

    for %{floor: %{}} = cell <- cells() do
      numbers = cell.floor.measure.()
      assert length(numbers) == length(cell.rows), "#{cell.name}: #{inspect(numbers)}"
      assert Enum.any?(numbers, &(is_number(&1) and &1 > 0))
    end
  end

  test "the cells of other VMs measure every queue" do
    for adapter <- Adapter.all() do
      # In a VM of its own, for what an earlier test has left as garbage would be freed while this is measured.
      assert [accounted, _resident] = ChildVm.run(Memory, :sample, [adapter, :binary, 2_000])
      assert accounted > 2_000 * 256
      assert is_number(ChildVm.run(Memory, :sample_in_flight, [adapter, :map, 1_000]))
      assert [_, _, ratio] = Depth.sample(adapter, [10, 2_000], 500)
      assert ratio > 0
    end
  end

  test "other VMs are started with their number of schedulers, and bring wrong results over" do
    assert ChildVm.run(System, :schedulers_online, [], ["+S", "1:1"]) == 1
    assert_raise WrongResult, "items: expected 2, got 1", fn -> ChildVm.run(WrongResult, :check!, ["items", 2, 1]) end

    for cell <- [
          Features.cell(2),
          Schedulers.cell(0.02),
          RequestMemory.in_flight_cell(:map),
          Depth.cell([10, 100], 100, 1, [])
        ] do
      numbers = cell.measure.(NativeAdapter, cell.prepare.(NativeAdapter))
      assert length(numbers) == length(cell.rows)
      assert Enum.all?(numbers, &(&1 > 0))
    end
  end

  test "a queue that keeps more than its capacity is convicted where the bound is promised" do
    cell = BackPressure.bound_cell(1, [LosingAdapter])
    assert_raise WrongResult, ~r/bound, losing/, fn -> cell.measure.(LosingAdapter, nil) end
    tidy()
  end

  for faulty <- @faulty do
    describe "#{faulty.name()}" do
      @describetag faulty: faulty

      test "is convicted by the throughput", %{faulty: faulty} do
        for overrides <- [[], [workers: 1], [take: :once], [kind: :binary]] do
          assert_raise WrongResult, fn -> Throughput.rate(faulty, shape(overrides), 3_000) end
          tidy()
        end
      end

      test "is convicted by the cells that measure latency", %{faulty: faulty} do
        for cell <- [
              Latency.cell(0, 3_000),
              Latency.cell(2, 3_000),
              TimeInQueue.cell(:saturated, 6_000),
              EnqueueOnly.cell(:map, 2, 0.05)
            ] do
          assert_raise WrongResult, fn -> cell.measure.(faulty, nil) end
          tidy()
        end
      end
    end
  end

  test "an item in another's place is seen by the cells that look at each" do
    for sample <- [
          fn -> Memory.sample(ChangingAdapter, :map, 3_000) end,
          fn -> Depth.sample(ChangingAdapter, [10, 2_000], 500) end
        ] do
      assert_raise WrongResult, ~r/the next item/, sample
      tidy()
    end
  end

  # A cell that ends with a wrong result leaves its queue behind, and its processes.
  defp tidy, do: EtsAdapter.stop(PaymentQueue.Baseline.EtsQueue)
end
