defmodule PaymentQueue.Soak.Conductor do
  @moduledoc "The process of one line: works on it for a while, brings it to rest, and answers what was found."

  use GenServer

  alias PaymentQueue.Soak.{Caller, Kind, Line, Operator, Program, Quiet, Waiting}

  @doc "Starts a line of that kind, of that seed, with its files in that directory. Not linked: its crash is a finding."
  @spec start({Kind.t(), non_neg_integer(), Path.t()}) :: GenServer.on_start()
  def start(arguments), do: GenServer.start(__MODULE__, arguments, timeout: :infinity)

  @doc "Load and random steps for so many milliseconds; then the callers hold."
  @spec work(pid(), pos_integer()) :: :ok
  def work(conductor, ms), do: GenServer.call(conductor, {:work, ms}, :infinity)

  @doc "Brings the queue to rest and checks it."
  @spec rest(pid(), keyword()) :: Quiet.findings()
  def rest(conductor, options \\ []), do: GenServer.call(conductor, {:rest, options}, :infinity)

  @impl true
  def init({kind, seed, dir}) do
    Process.flag(:trap_exit, true)
    line = Line.start(kind, seed, dir)
    {:ok, %{line: line, program: Program.start(seed, kind), quiet: Quiet.start(line)}}
  end

  @impl true
  def handle_call({:work, ms}, _from, state) do
    {line, program} = state.line |> Line.bury(false) |> Line.call() |> Operator.work(state.program, Waiting.now() + ms)
    Caller.hold(line.callers)
    {:reply, :ok, %{state | line: line, program: program}}
  end

  def handle_call({:rest, options}, _from, state) do
    {findings, line, quiet} = Quiet.rest(state.line, state.quiet, options)
    {:reply, findings, %{state | line: line, quiet: quiet}}
  end

  # Back into the mailbox, in which `Line.bury/2` looks for it.
  @impl true
  def handle_info({:EXIT, _, _} = exit, state) do
    send(self(), exit)
    {:noreply, %{state | line: Line.bury(state.line, false)}}
  end

  # The late answer to a call that was given up.
  def handle_info(_message, state), do: {:noreply, state}

  @impl true
  def terminate(_reason, state), do: Line.stop(state.line)
end
