defmodule PaymentQueue.Bench.MainTest do
  # Runs the bench as a whole, which starts the adapters' queues.
  use ExUnit.Case, async: false

  import ExUnit.CaptureIO

  alias PaymentQueue.Bench

  @moduletag :tmp_dir

  test "a run prints tables and a verdict and writes the JSON", %{tmp_dir: directory} do
    path = Path.join(directory, "report.json")
    argv = ["--quick", "--seconds", "0.01", "--only", "map 1+1", "--only", "floors", "--json", path]
    {status, output} = with_output(fn -> Bench.main(argv) end)

    assert status == 0
    assert output =~ "native/ets"
    assert output =~ ~r/All results are right; \d of 2 goals are met/
    assert output =~ "written: #{path}"
    text = File.read!(path)
    assert text =~ ~s("schema":"payment_queue.bench/1")
    assert text =~ ~s("name":"map 1+1")
  end

  test "a wrong option gets the usage text and status 2" do
    {status, output} = with_output(fn -> Bench.main(["--fast"]) end)
    assert status == 2
    assert output =~ "unknown option --fast"
    assert output =~ "usage: mix payment_queue.bench"

    {status, output} = with_output(fn -> Bench.main(["--only", "nothing of the kind"]) end)
    assert status == 2
    assert output =~ "--only nothing of the kind"
  end

  test "--help and --list measure nothing" do
    assert {0, "usage: mix payment_queue.bench" <> _} = with_output(fn -> Bench.main(["--help"]) end)
    assert {0, list} = with_output(fn -> Bench.main(["--list"]) end)
    assert list =~ "throughput\n  map 4+4\n"
  end

  describe "--html" do
    setup %{tmp_dir: directory} do
      before = Map.take(System.get_env(), ["XDG_CACHE_HOME", "PATH"])
      on_exit(fn -> System.put_env(Map.merge(%{"XDG_CACHE_HOME" => nil}, before)) end)
      System.put_env("XDG_CACHE_HOME", directory)
    end

    test "embeds the chart library of the cache", %{tmp_dir: directory} do
      library = Path.join(directory, "payment_queue/chart.js-4.5.1/node_modules/chart.js/dist")
      File.mkdir_p!(library)
      File.write!(Path.join(library, "chart.umd.js"), "/* the charts */")
      path = Path.join(directory, "report.html")

      assert {0, _output} = with_output(fn -> Bench.main(["--quick", "--only", "floors", "--html", path]) end)
      assert File.read!(path) =~ "<script>/* the charts */</script>"
    end

    test "says before it measures what it lacks", %{tmp_dir: directory} do
      System.put_env("PATH", directory)
      argv = ["--quick", "--only", "floors", "--html", Path.join(directory, "report.html")]
      {status, output} = with_output(fn -> Bench.main(argv) end)
      assert status == 2
      assert output =~ "--html wants Chart.js, which npm fetches: install npm"
      refute output =~ "Floors"
    end
  end

  # Both streams: the progress is on standard error.
  defp with_output(function) do
    me = self()
    output = capture_io(fn -> send(me, {:errors, capture_io(:stderr, fn -> send(me, {:status, function.()}) end)}) end)
    assert_received {:status, status}
    assert_received {:errors, errors}
    {status, output <> errors}
  end
end
