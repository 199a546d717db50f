# Benchee is no dependency: it is used where it is on the code path.
benchee? = Code.ensure_loaded?(Benchee)

unless benchee?,
  do: IO.puts("skipped, because Benchee is not on the code path: PaymentQueue.Bench.BencheeTest, real runs")

defmodule PaymentQueue.Bench.BencheeTest do
  # The scripts start the adapters' queues.
  use ExUnit.Case, async: false

  import ExUnit.CaptureIO

  @bench Path.expand("../../bench", __DIR__)

  for script <- ~w(enqueue take round_trip) do
    @tag skip: not benchee? && "Benchee is not on the code path"
    test "#{script}.exs compares the three queues with each payload" do
      System.put_env("BENCHEE_SECONDS", "0.02")
      output = capture_io(fn -> Code.eval_file("#{unquote(script)}.exs", @bench) end)
      for input <- ["map", "256 B", "4 KiB"], do: assert(output =~ "With input #{input}")
      for queue <- ["native", "ets", "genserver"], do: assert(output =~ ~r/^#{queue} /m)
      assert output =~ "Comparison:"
    after
      System.delete_env("BENCHEE_SECONDS")
    end

    @tag skip: benchee? && "Benchee is on the code path"
    test "#{script}.exs without Benchee says what to do" do
      assert capture_io(:stderr, fn -> Code.eval_file("#{unquote(script)}.exs", @bench) end) =~ ~s({:benchee, "~> 1.3")
    end
  end
end
