defmodule PaymentQueue.Bench.LoadTest do
  @moduledoc """
  POST of 256 bytes of JSON over HTTP by 1000 connections of `wrk`: the server of `examples/payments_api` with each queue behind it,
  and, as the floor, with none.

  Ordinary: workers that only count, as many as keep up. Saturated: a small queue and slow workers, so that nearly all answers
  are 503. The server runs in a VM of its own beside `wrk`, on the same cores. Every sample ends with a drain; what was
  accepted and did not come out would be lost, and a wrong result.
  """

  alias PaymentQueue.Bench.{Cell, ChildVm, LoadServer, Machine, WrongResult, Wrk}

  @example Path.expand("../../examples/payments_api", __DIR__)
  @connections 1_000
  @start_ms 30_000
  @drain_ms 120_000
  @mebibyte 1_048_576

  @type load :: :ordinary | :saturated

  @settings %{
    ordinary: %{capacity: 100_000, workers: 4, work_ms: 0},
    saturated: %{capacity: 100, workers: 4, work_ms: 5}
  }

  @doc "A cell of so many seconds for each queue."
  @spec cell(load(), seconds :: pos_integer()) :: Cell.t()
  def cell(load, seconds) do
    %Cell{
      name: "load #{load}",
      table: :load,
      rows: rows(load),
      rounds: 1,
      timed: false,
      prepare: fn _adapter -> prepare() end,
      measure: fn adapter, ready -> with :ok <- ready, do: sample(adapter, load, seconds) end,
      floor: %{name: "no queue", measure: fn -> with :ok <- prepare(), do: sample(nil, load, seconds) end}
    }
  end

  defp rows(load) do
    [
      Cell.row("#{load}: requests/s", "1/s", :higher),
      Cell.row("#{load}: mean", "ms", :lower),
      Cell.row("#{load}: p99", "ms", :lower),
      Cell.row("#{load}: p50 in the server", "µs", :lower),
      Cell.row("#{load}: p99 in the server", "µs", :lower),
      Cell.row("#{load}: peak memory", "MiB", :lower),
      Cell.row("#{load}: CPU of the server", "% of all cores", :lower, ratio: false),
      Cell.row("#{load}: refused with 503", "% of answers", :lower, ratio: false),
      Cell.row("#{load}: accepted and lost", "payments", :lower, ratio: false)
    ]
  end

  @doc "Whether this machine has what the load test needs, or `{:skip, reason}`."
  @spec available() :: :ok | {:skip, String.t()}
  def available do
    missing = Enum.find([:mochiweb, :jiffy], &(&1 |> :code.lib_dir() |> is_tuple()))

    cond do
      not Wrk.available?() -> {:skip, "wrk is not installed: bin/setup installs it"}
      missing -> {:skip, "erlang-#{missing} is not installed: bin/setup installs it"}
      true -> :ok
    end
  end

  defp prepare do
    with :ok <- available(), do: compile_once()
  end

  # Its modules alone, without its own build of the native code.
  defp compile_once do
    unless :persistent_term.get({__MODULE__, :compiled}, false) do
      File.mkdir_p!(ebin())

      files = [
        Path.join(@example, "lib/payments_api.ex") | Path.wildcard(Path.join(@example, "lib/payments_api/**/*.ex"))
      ]

      {:ok, _modules, _warnings} = Kernel.ParallelCompiler.compile_to_path(files, ebin())
      :persistent_term.put({__MODULE__, :compiled}, true)
    end

    :ok
  end

  defp ebin, do: Path.join([Path.dirname(Mix.Project.build_path()), "bench", "payments_api"])

  defp sample(adapter, load, seconds) do
    ChildVm.with_vm(["-pa", ebin()], fn peer ->
      {port, pid} = :peer.call(peer, LoadServer, :start, [adapter, @settings[load]], @start_ms)
      cpu = Machine.cpu_ticks(pid)
      started = System.monotonic_time(:millisecond)
      seen = Wrk.run(port, @connections, seconds, Path.join(@example, "priv/load.lua"))
      share = Machine.cpu_share(cpu, Machine.cpu_ticks(pid), System.monotonic_time(:millisecond) - started)
      counted = :peer.call(peer, LoadServer, :finish, [@drain_ms], @drain_ms + @start_ms)
      check!("load #{load}, #{name(adapter)}", seen, counted)
      numbers(seen, counted, share, Machine.peak_bytes(pid))
    end)
  end

  defp check!(what, seen, counted) do
    WrongResult.check!("#{what}: {number, sum} of payments handled", counted.accepted, counted.handled)
    {accepted, _sum} = counted.accepted
    unseen = accepted - (seen.answered - seen.refused)
    # A request may be under way on each connection when wrk hangs up.
    possible = unseen in 0..(@connections + seen.broken)
    WrongResult.check!("#{what}: #{accepted} accepted, of which wrk did not see #{unseen}: possible", true, possible)
  end

  defp numbers(seen, counted, cpu, peak) do
    [
      seen.per_second,
      seen.mean_ms,
      seen.p99_ms,
      counted.p50_us,
      counted.p99_us,
      peak && peak / @mebibyte,
      cpu,
      100 * seen.refused / max(seen.answered, 1),
      elem(counted.accepted, 0) - elem(counted.handled, 0)
    ]
  end

  defp name(nil), do: "no queue"
  defp name(adapter), do: adapter.name()
end
