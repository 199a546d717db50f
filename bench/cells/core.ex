defmodule PaymentQueue.Bench.Core do
  @moduledoc """
  The core crate without the BEAM, by criterion (`cargo bench -p payment_queue_core`), beside crossbeam's `ArrayQueue`, which knows
  no bytes, leases, waiters or counters.
  """

  alias PaymentQueue.Bench.{Cell, NativeAdapter}

  @root Path.expand("../..", __DIR__)

  # Row, criterion's directory of ours, and of the floor.
  @benches [
    {"core: enqueue", "core/enqueue", nil},
    {"core: take", "core/take", nil},
    {"core: ack", "core/ack", nil},
    {"core: enqueue + take + ack", "core/enqueue_take_ack", "floor/array_queue_push_pop"},
    {"core: enqueue + settle and take", "core/enqueue_settle_and_take", "floor/array_queue_push_pop"},
    {"core: 1 thread", "contention/enqueue_take_ack_threads/1", "floor/array_queue_threads/1"},
    {"core: 2 threads", "contention/enqueue_take_ack_threads/2", "floor/array_queue_threads/2"},
    {"core: 4 threads", "contention/enqueue_take_ack_threads/4", "floor/array_queue_threads/4"},
    {"core: depth 1 K", "depth/enqueue_take_ack/1000", "floor/array_queue_push_pop"},
    {"core: depth 100 K", "depth/enqueue_take_ack/100000", "floor/array_queue_push_pop"},
    {"core: depth 1 M", "depth/enqueue_take_ack/1000000", "floor/array_queue_push_pop"}
  ]

  @doc "A cell of one run of criterion with these arguments."
  @spec cell(arguments :: [String.t()]) :: Cell.t()
  def cell(arguments) do
    %Cell{
      name: "core",
      table: :core,
      rows: for({name, _ours, _floor} <- @benches, do: Cell.row(name, "ns", :lower)),
      adapters: [NativeAdapter],
      rounds: 1,
      timed: false,
      prepare: fn NativeAdapter -> run(arguments) end,
      measure: fn NativeAdapter, result -> with :ok <- result, do: for({_, ours, _} <- @benches, do: median(ours)) end,
      floor: %{
        name: "ArrayQueue push + pop",
        measure: fn -> for({_, _, floor} <- @benches, do: floor && median(floor)) end
      }
    }
  end

  defp run(arguments) do
    with cargo when cargo != nil <- System.find_executable("cargo"),
         File.rm_rf!(results()),
         args = ~w(bench --package payment_queue_core --bench core --) ++ arguments,
         {_output, 0} <- System.cmd(cargo, args, cd: @root, stderr_to_stdout: true) do
      :ok
    else
      nil ->
        {:skip, "no cargo on the PATH"}

      {output, _status} ->
        {:skip, "cargo bench failed: #{output |> String.trim() |> String.split("\n") |> List.last()}"}
    end
  end

  # Criterion's own file has no reader on every Elixir that is supported; of all its numbers one is wanted.
  defp median(bench) do
    with {:ok, estimates} <- File.read(Path.join([results(), bench, "new", "estimates.json"])) do
      parse_median!(estimates)
    else
      {:error, :enoent} -> nil
    end
  end

  @doc "The median in ns of criterion's `estimates.json`."
  @spec parse_median!(String.t()) :: float()
  def parse_median!(estimates) do
    [_, number] = Regex.run(~r/"median":\{.*?"point_estimate":([-+.eE0-9]+)/, estimates)
    {ns, ""} = Float.parse(number)
    ns
  end

  defp results, do: Path.join([System.get_env("CARGO_TARGET_DIR", Path.join(@root, "target")), "criterion"])
end
