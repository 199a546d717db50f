defmodule PaymentQueue.Bench.Crew do
  @moduledoc """
  Processes that get ready, wait for one common start, and end with a result.
  """

  alias PaymentQueue.Bench.WrongResult

  @type member :: {pid(), reference()}

  # Far beyond any honest run: who waits longer has lost an item or a wake-up.
  @stuck_ms 300_000

  @doc "A process that runs `prepare`, waits for `go/1`, and gives what came of it to the function that `prepare` returned."
  @spec member((() -> (() -> term()))) :: member()
  def member(prepare) do
    spawn_monitor(fn ->
      work = prepare.()

      receive do
        :go -> exit({:shutdown, work.()})
      end
    end)
  end

  @doc "Starts them all; returns the time."
  @spec go([member()]) :: integer()
  def go(members) do
    started = System.monotonic_time()
    Enum.each(members, fn {pid, _monitor} -> send(pid, :go) end)
    started
  end

  @doc "The result of a member that ended."
  @spec await(member()) :: term()
  def await({pid, monitor}) do
    receive do
      {:DOWN, ^monitor, :process, ^pid, {:shutdown, result}} ->
        result

      {:DOWN, ^monitor, :process, ^pid, reason} ->
        raise WrongResult, "a process ended with #{inspect(reason)}"
    after
      @stuck_ms ->
        raise WrongResult, "a process is stuck in #{inspect(Process.info(pid, :current_stacktrace))}"
    end
  end

  @spec await_all([member()]) :: [term()]
  def await_all(members), do: Enum.map(members, &await/1)
end
