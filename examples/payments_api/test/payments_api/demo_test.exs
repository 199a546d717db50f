defmodule PaymentsApi.DemoTest do
  # The whole thing, without the terminal: real requests, workers killed, and the books compared.
  use ExUnit.Case, async: false

  alias PaymentsApi.{FaultyQueue, Http, Queue}
  alias PaymentsApi.Demo.{Options, OwnLoad, Report, Verdict, WorkerKiller}

  @gateways [
    [
      processor: :default,
      latency: 1..3,
      error_rate: 0.01,
      lost_answer_rate: 0.001,
      decline_one_in: 200,
      outages: {500, 150}
    ],
    [processor: :fallback, latency: 2..4, error_rate: 0.02, decline_one_in: 200]
  ]

  describe "a run with workers killed all the time" do
    test "over PaymentQueue loses nothing and handles nothing twice" do
      verdict = run(Queue.Native, 3)
      assert Verdict.faults(verdict) == []
      assert Verdict.lost(verdict) == 0
      assert verdict.counts.accepted > 0
      assert verdict.counts.kills > 0
      assert verdict.counts.again > 0
      assert elem(verdict.dead, 0) > 0
      assert Report.last_line(verdict) =~ ~r/^accepted [0-9]+, settled [0-9]+, dead [0-9]+, lost 0$/
    end

    for queue <- [Queue.Ets, Queue.GenServer] do
      test "over #{inspect(queue)} loses payments, and says so" do
        verdict = run(unquote(queue), 2)
        assert Verdict.lost(verdict) > 0
        assert Enum.any?(Verdict.faults(verdict), &(&1 =~ "lost"))
        assert {verdict.paid_twice, verdict.counts.overlapped, verdict.counts.redelivered} == {0, 0, 0}
      end
    end
  end

  describe "the books notice a queue that" do
    for {fault, words} <- [
          loses_on_kill: "lost",
          settles_unhandled: "lost",
          redelivers_after_ack: "delivered again after their ack",
          hands_out_twice: "two workers had the same payment"
        ] do
      test "#{fault}" do
        FaultyQueue.fault(unquote(fault))
        on_exit(fn -> FaultyQueue.fault(:none) end)
        assert Enum.any?(Verdict.faults(run(FaultyQueue, 1)), &(&1 =~ unquote(words)))
      end
    end

    test "does nothing wrong: none" do
      assert Verdict.faults(run(FaultyQueue, 1)) == []
    end
  end

  describe "the command line" do
    test "has defaults" do
      assert Options.parse([]) == {:ok, %{seconds: nil, port: 0, queue: "native"}}
      assert Options.parse(~w(--seconds 5 --port 4000 --queue ets)) == {:ok, %{seconds: 5, port: 4000, queue: "ets"}}
      assert Options.parse(~w(--seconds=5)) == {:ok, %{seconds: 5, port: 0, queue: "native"}}
    end

    test "names the option, the value and what is allowed" do
      for {argv, parts} <- [
            {~w(--seconds 0), ["--seconds 0", "from 1 to"]},
            {~w(--seconds 2.5), ["--seconds 2.5", "from 1 to"]},
            {~w(--seconds), ["--seconds", "wants a value"]},
            {~w(--port 70000), ["--port 70000", "65535"]},
            {~w(--queue kafka), ["--queue kafka", "native, ets, genserver"]},
            {~w(--quue ets), ["--quue", "--queue"]},
            {~w(ets), ["ets"]}
          ] do
        assert {:error, text} = Options.parse(argv)
        for part <- parts, do: assert(text =~ part)
      end
    end
  end

  defp run(queue, seconds) do
    start_supervised!({PaymentsApi, queue: queue, capacity: 1_000, concurrency: 16, gateways: @gateways})
    before = queue.account()
    killer = start_supervised!({WorkerKiller, queue: queue, every: 50})
    OwnLoad.run(Http.port(), 4, seconds, &send(self(), {:load_done, &1}))
    assert_received {:load_done, load}
    :ok = stop_supervised(WorkerKiller)
    refute Process.alive?(killer)
    assert Http.await_answered(5_000)
    Verdict.collect(queue, before, queue.drain(30_000), load)
  end
end
