defmodule PaymentsApi.Demo do
  @moduledoc """
  The main job of this repository, with real HTTP requests: serve, put load on it, kill workers, drain, and account for
  every payment. `bin/demo` runs it; `PaymentsApi.Demo.Options` lists what it can be told.
  """

  alias PaymentsApi.{Http, Meter, Queue}
  alias PaymentsApi.Demo.{LiveLine, Load, LogFile, Options, Report, Signals, Verdict, WorkerKiller}

  @drain_ms 120_000
  @quiet_ms 10_000
  @second 1_000

  @doc "Runs the demo with these command line arguments and returns the exit status."
  @spec main([String.t()]) :: 0..2
  def main(argv) do
    case Options.parse(argv) do
      {:ok, options} -> run(options)
      {:error, reason} -> fail(reason)
    end
  end

  defp fail(reason) do
    IO.puts(:stderr, "bin/demo: #{reason}")
    2
  end

  defp run(options) do
    # A failing start comes back as a value, and a failing tree as a message.
    Process.flag(:trap_exit, true)
    queue = Queue.implementation(options.queue)

    case PaymentsApi.start_link(queue: queue, port: options.port) do
      {:ok, tree} -> serve(options, queue, tree)
      {:error, reason} -> fail(explain(reason, options))
    end
  end

  defp explain({:shutdown, {:failed_to_start_child, Http, :eaddrinuse}}, %{port: port}) do
    "--port #{port}: another program listens there; choose another, or leave it out for a free one"
  end

  defp explain({:shutdown, {:failed_to_start_child, Http, :eacces}}, %{port: port}) do
    "--port #{port}: this user may not listen there; ports from 1024 on are free to all"
  end

  defp explain(reason, _options), do: "the API did not start: #{inspect(reason)}"

  defp serve(options, queue, tree) do
    before = queue.account()
    greet(options, LogFile.open())
    # bin/demo turns Ctrl-C into this signal.
    Signals.trap()

    state = %{queue: queue, tree: tree, line: LiveLine.new(queue, terminal?()), load: nil}
    :timer.send_interval(@second, :tick)
    state = if options.seconds, do: under_load(state, options.seconds), else: until_stopped(state)

    {drained, state} = drain(state)
    LiveLine.finish(state.line)
    verdict = Verdict.collect(queue, before, drained, state.load)
    IO.write(Report.table(verdict, Meter.latencies()))
    IO.puts(Report.last_line(verdict))
    if Verdict.faults(verdict) == [], do: 0, else: 1
  end

  # --- the phases of a run ------------------------------------------------------------------------------------------

  defp under_load(state, seconds) do
    stop = Load.start(Http.port(), seconds)
    {:ok, killer} = WorkerKiller.start_link(queue: state.queue)
    state = await(state, :load_done, stop)
    GenServer.stop(killer)
    state
  end

  defp until_stopped(state), do: await(state, :stop, fn -> :ok end)

  # New payments are refused with `queue_closed` from here on; the server still answers.
  defp drain(state) do
    # The load generator has hung up, but its last requests may still be on their way to the queue.
    Http.await_answered(@quiet_ms)
    %{queue: queue} = state
    owner = self()
    spawn_link(fn -> send(owner, {:drained, queue.drain(@drain_ms)}) end)
    state = await(state, :drained, fn -> :ok end)
    {state.drained, LiveLine.print(state.line) |> then(&%{state | line: &1})}
  end

  defp await(state, event, stop) do
    receive do
      :tick -> await(%{state | line: LiveLine.print(state.line)}, event, stop)
      :stop when event == :stop -> state
      :stop -> stop.() && await(state, event, stop)
      {:load_done, report} when event == :load_done -> %{state | load: report}
      {:drained, result} when event == :drained -> Map.put(state, :drained, result)
      {:EXIT, tree, reason} when tree == state.tree -> exit({:api_died, reason})
      {:EXIT, _process, _reason} -> await(state, event, stop)
    end
  end

  # --- surroundings -------------------------------------------------------------------------------------------------

  defp greet(options, log) do
    url = "http://127.0.0.1:#{Http.port()}"
    IO.puts("payments API on #{url}, queue: #{options.queue}; log in #{log}")

    if options.queue != "native" do
      IO.puts(
        "The #{options.queue} queue forgets a payment when it hands it out: every busy worker that is killed loses one."
      )
    end

    unless options.seconds do
      body = ~s({"correlationId":"4a7901b8-7d26-4d9d-aa19-4dc1c7cf60b3","amount":19.90})
      IO.puts("Ctrl-C drains and ends. Try:\n  curl -i #{url}/payments -d '#{body}'\n  curl #{url}/payments-summary")
    end
  end

  # Set by bin/demo, because a VM without a shell can't tell.
  defp terminal?, do: System.get_env("PAYMENTS_API_TERMINAL") == "true"
end
