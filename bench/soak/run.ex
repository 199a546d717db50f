defmodule PaymentQueue.Soak.Run do
  @moduledoc """
  The rounds of a soak: load on all lines, then a quiet point of all lines, then a look at the VM. A round with a violation
  is the last one.
  """

  alias PaymentQueue.Soak.{Conductor, Crashes, Kind, Quiet, Vitals, Waiting}

  @type violation :: {where :: atom(), law :: atom(), text :: String.t()}

  @type round :: %{
          number: pos_integer(),
          elapsed_ms: non_neg_integer(),
          findings: [Quiet.findings()],
          vitals: Vitals.reading(),
          violations: [violation()]
        }

  @typedoc "`peak`: the most that the VM ever had resident, in bytes."
  @type result :: %{
          rounds: pos_integer(),
          elapsed_ms: non_neg_integer(),
          totals: %{atom() => map()},
          vitals: [Vitals.reading()],
          peak: non_neg_integer() | nil,
          violations: [violation()]
        }

  @round_ms 12_000
  # A short soak has some quiet points, too.
  @least_rounds 3
  # Opening a copy in another VM takes a while.
  @reopen_every 4

  @doc "Runs until no other round fits into the time, or a law is broken. The function gets each round."
  @spec run(PaymentQueue.Soak.Options.t(), (round() -> term())) :: result()
  def run(options, notify) do
    Crashes.listening(fn crashes ->
      dir = Path.join(System.tmp_dir!(), "payment_queue_soak_#{System.pid()}_#{System.unique_integer([:positive])}")
      File.mkdir_p!(dir)
      conductors = for kind <- options.kinds, do: {kind, start(kind, options.seed, dir)}

      try do
        rounds(conductors, options, crashes, notify)
      after
        stop(conductors)
        File.rm_rf!(dir)
      end
    end)
  end

  defp start(kind, seed, dir) do
    {:ok, conductor} = Conductor.start({kind, seed, dir})
    conductor
  end

  # One that has crashed is gone, and so is all that was linked to it.
  defp stop(conductors) do
    for {_kind, conductor} <- conductors, Process.alive?(conductor), do: GenServer.stop(conductor, :shutdown, :infinity)
  end

  # --- rounds --------------------------------------------------------------------------------------------------------

  defp rounds(conductors, options, crashes, notify) do
    state = %{
      conductors: conductors,
      round_ms: min(@round_ms, div(options.ms, @least_rounds)) |> max(1),
      crashes: crashes,
      notify: notify,
      began: Waiting.now(),
      number: 1,
      totals: Map.new(options.kinds, &{&1.name, %{}}),
      vitals: []
    }

    again(state, options.ms)
  end

  defp again(state, ms) do
    round = one_round(state)
    state.notify.(round)
    totals = Enum.reduce(round.findings, state.totals, &add/2)
    state = %{state | totals: totals, vitals: state.vitals ++ [round.vitals]}

    if round.violations == [] and round.elapsed_ms + state.round_ms <= ms,
      do: again(%{state | number: state.number + 1}, ms),
      else: result(state, round)
  end

  defp one_round(state) do
    {_, crashed} = each(state, &Conductor.work(&1, state.round_ms))
    reopen? = rem(state.number, @reopen_every) == 1
    {findings, also_crashed} = if crashed == [], do: each(state, &Conductor.rest(&1, reopen: reopen?)), else: {[], []}
    vitals = Vitals.read(findings, List.first(state.vitals))

    broken = for finding <- findings, {law, text} <- finding.violations, do: {finding.kind, law, text}
    reported = for text <- state.crashes.(), do: {:vm, :crash, text}
    grown = for {law, text} <- Vitals.grown(state.vitals ++ [vitals]), do: {:vm, law, text}

    %{
      number: state.number,
      elapsed_ms: Waiting.now() - state.began,
      findings: findings,
      vitals: vitals,
      violations: crashed ++ also_crashed ++ broken ++ reported ++ grown
    }
  end

  # On all lines at the same time: what they answered, and which of them answered nothing, because something that cannot be
  # has happened to them.
  defp each(state, function) do
    answers =
      state.conductors
      |> Enum.map(fn {kind, conductor} -> Task.async(fn -> ask(kind, conductor, function) end) end)
      |> Task.await_many(:infinity)

    {for({:ok, answer} <- answers, do: answer), for({:crashed, violation} <- answers, do: violation)}
  end

  defp ask(kind, conductor, function) do
    {:ok, function.(conductor)}
  catch
    :exit, {reason, _call} -> {:crashed, {kind.name, :crash, Exception.format_exit(reason)}}
  end

  defp add(finding, totals) do
    sum = fn map, more -> Map.merge(map, more, fn _key, a, b -> a + b end) end

    Map.update!(totals, finding.kind, fn total ->
      total
      |> sum.(Map.take(finding.counts, Map.keys(finding.counts) -- Map.keys(finding.changes)))
      |> sum.(finding.changes)
      |> sum.(%{rounds: 1, reopened: if(finding.reopened, do: 1, else: 0)})
    end)
  end

  defp result(state, last) do
    %{
      rounds: last.number,
      elapsed_ms: last.elapsed_ms,
      totals: state.totals,
      vitals: state.vitals,
      peak: PaymentQueue.Bench.Machine.peak_bytes("self"),
      violations: last.violations
    }
  end

  @doc "The kinds in the order of a result's table."
  @spec kinds(result()) :: [atom()]
  def kinds(result), do: for(%{name: name} <- Kind.all(), is_map_key(result.totals, name), do: name)
end
