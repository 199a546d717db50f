defmodule PaymentQueue.SoakTest do
  # The soak as a whole, for some seconds.
  use PaymentQueue.QueueCase, async: false

  import ExUnit.CaptureIO

  alias PaymentQueue.Soak
  alias PaymentQueue.Soak.{Options, Program}

  defp soak(argv) do
    ref = make_ref()

    text =
      capture_io(fn ->
        errors = capture_io(:stderr, fn -> send(self(), {ref, Soak.main(argv)}) end)
        IO.write(errors)
      end)

    assert_received {^ref, status}
    {status, text}
  end

  test "runs kinds of queue, finds nothing, and says so" do
    only = for kind <- ~w(batch rate sync pulled), argument <- ["--only", kind], do: argument
    {status, text} = soak(["--minutes", "0.05", "--seed", "7"] ++ only)
    assert status == 0, text
    assert text =~ ~r/^seed +7$/m
    assert text =~ ~r/^round 1, /m
    for kind <- ~w(batch rate sync pulled), do: assert(text =~ ~r/^\| #{kind} \| [1-9]/m)
    refute text =~ "| plain |"
    assert text =~ ~r/^soak: PASSED: [\d,]+ accepted items, 0 lost, 0 settled twice/m
  end

  @tag :nats
  test "runs queues in NATS, each with a server of its own, which ends with the soak" do
    {status, text} = soak(["--minutes", "0.1", "--seed", "7", "--only", "nats", "--only", "nats_pulled"])
    assert status == 0, text
    for kind <- ~w(nats nats_pulled), do: assert(text =~ ~r/^\| #{kind} \| [1-9]/m)

    for kind <- ~w(nats nats_pulled),
        do: assert(PaymentQueue.Nats.look(:"soak_#{kind}") == {:error, :queue_unavailable})
  end

  test "reports an item that somebody has stolen, with the seed, and fails" do
    spawn_link(fn -> steal(:soak_delayed) end)
    seed = seed_without_purge(:delayed)
    {status, text} = soak(["--minutes", "0.1", "--seed", "#{seed}", "--only", "delayed"])
    assert status == 1
    assert text =~ "delayed: lost: 1 items are nowhere, purged or dropped as dead are 0; among the lost: ["
    assert text =~ "soak: FAILED in round 1, seed #{seed}: bin/soak --seed #{seed} --minutes 0.1 --only delayed"
  end

  # A purge answers with a number, and one of its items may have been done already: then the number has room for another.
  defp seed_without_purge(name) do
    kind = Enum.find(Soak.Kind.all(), &(&1.name == name))

    Enum.find(1..100, fn seed ->
      steps = seed |> Program.start(kind) |> Stream.unfold(&Program.next/1) |> Enum.take(2_000)
      :purge not in steps
    end)
  end

  # The queue counts it as settled, and nobody has handled it.
  defp steal(queue) do
    eventually(fn -> queue in PaymentQueue.queues() end)
    {:ok, _payload, _wait} = PaymentQueue.dequeue(queue: queue, timeout: :infinity)
  end

  test "kinds that need what is not there are skipped by name" do
    if Code.ensure_loaded?(GenStage) do
      {status, text} = soak(["--minutes", "0.02", "--only", "staged"])
      assert status == 0, text
    else
      {status, text} = soak(["--only", "staged"])
      assert status == 2
      assert text =~ "skipped, because GenStage is not on the code path: staged"
    end
  end

  test "--help, and wrong options with status 2" do
    assert {0, "usage: bin/soak" <> _} = soak(["--help"])

    for {argv, problem} <- [
          {["--minutes", "0"], "--minutes 0.0: allowed is a number above 0"},
          {["--minutes", "soon"], "--minutes soon: allowed is a number above 0"},
          {["--minutes"], "--minutes wants a value"},
          {["--seed", "-1"], "--seed -1: allowed is a whole number from 0 on"},
          {["--only", "best"], "--only best: allowed is one of plain, batch, "},
          {["--fast"], "unknown option --fast; allowed: --help, --minutes, --only, --seed"},
          {["now"], ~s(unexpected argument "now")}
        ] do
      assert {2, text} = soak(argv)
      assert text =~ problem
      assert text =~ "usage: bin/soak"
    end
  end

  test "without a seed each run has its own" do
    assert {:run, %{seed: seed, ms: 300_000, kinds: kinds}} = Options.parse([])
    assert {:run, %{seed: other}} = Options.parse([])
    assert seed != other and kinds == Soak.Kind.all()
  end
end
