defmodule PaymentQueue.ChildVm do
  @moduledoc false
  # VMs that tests start, talk to and kill. A queue on disk stays open as long as its VM lives, so what a restart does is seen
  # in another VM only.

  import ExUnit.Assertions

  @doc "Runs a script to its end in a VM of its own and returns what it said. `ebin`: another build of the library."
  @spec run(String.t(), keyword(), Path.t()) :: String.t()
  def run(script, bindings \\ [], ebin \\ ebin()) do
    {output, status} = System.cmd(elixir(), arguments(script, bindings, ebin), stderr_to_stdout: true)
    assert status == 0, "the VM ended with status #{status} and said:\n#{output}"
    output
  end

  @doc "Starts a script in a VM of its own. What it prints arrives line by line; see `line/2`."
  @spec start(String.t(), keyword()) :: port()
  def start(script, bindings \\ []) do
    options = [:binary, :exit_status, :stderr_to_stdout, line: 65_536, args: arguments(script, bindings, ebin())]
    Port.open({:spawn_executable, elixir()}, options)
  end

  @doc "The next line of a started VM, or `{:exit, status}`."
  @spec line(port(), timeout()) :: String.t() | {:exit, non_neg_integer()}
  def line(vm, timeout \\ 60_000) do
    receive do
      {^vm, {:data, {:eol, line}}} -> line
      {^vm, {:exit_status, status}} -> {:exit, status}
    after
      timeout -> flunk("the VM said nothing for #{timeout} ms")
    end
  end

  @doc "Kills a started VM with SIGKILL, and waits until it is gone."
  @spec kill(port()) :: :ok
  def kill(vm) do
    {:os_pid, pid} = Port.info(vm, :os_pid)
    # The script of `elixir` becomes the VM by exec, so this is the VM's own.
    {_, 0} = System.cmd("kill", ["-9", "#{pid}"])
    gone(vm)
  end

  defp gone(vm) do
    case line(vm) do
      {:exit, _} -> :ok
      _line -> gone(vm)
    end
  end

  defp arguments(script, bindings, ebin) do
    code = "bindings = #{inspect(bindings, limit: :infinity, printable_limit: :infinity)}\n_ = bindings\n" <> script
    ["-pa", ebin, "-e", code]
  end

  defp ebin, do: Application.app_dir(:payment_queue, "ebin")

  defp elixir, do: System.find_executable("elixir")
end
