defmodule PaymentsApi.Demo.Wrk do
  @moduledoc "Runs `wrk` and reads what its script reports."

  alias PaymentsApi.Demo.Load

  # One thread: wrk shares the machine with what it measures.
  @threads 1
  @result ~r/^result answered=(\d+) errors=(\d+) broken=(\d+)$/m

  @spec available?() :: boolean()
  def available?, do: System.find_executable("wrk") != nil

  @doc "Blocks until the end, or until the calling process gets `:stop`; then calls `done`."
  @spec run(:inet.port_number(), pos_integer(), pos_integer(), ({:ok, Load.report()} | {:error, String.t()} -> term())) ::
          term()
  def run(port, connections, seconds, done) do
    script = Application.app_dir(:payments_api, "priv/load.lua")
    seed = :rand.uniform(0x7FFFFFFF)

    args =
      ~w(--threads #{@threads} --connections #{connections} --duration #{seconds}s --script #{script}) ++
        ~w(http://127.0.0.1:#{port}/payments -- #{seed})

    wrk =
      Port.open({:spawn_executable, System.find_executable("wrk")}, [
        :binary,
        :exit_status,
        :stderr_to_stdout,
        args: args
      ])

    wrk |> collect("") |> read(connections) |> done.()
  end

  defp collect(wrk, output) do
    receive do
      {^wrk, {:data, data}} ->
        collect(wrk, output <> data)

      {^wrk, {:exit_status, 0}} ->
        {:ok, output}

      {^wrk, {:exit_status, status}} ->
        {:error, "wrk ended with status #{status}: #{String.trim(output)}"}

      :stop ->
        # An interrupted wrk stops as at its end and still reports.
        with {:os_pid, pid} <- Port.info(wrk, :os_pid),
             do: System.cmd("kill", ["-INT", to_string(pid)], stderr_to_stdout: true)

        collect(wrk, output)
    end
  end

  defp read({:ok, output}, connections) do
    case Regex.run(@result, output, capture: :all_but_first) do
      nil ->
        {:error, "wrk reported no result: #{String.trim(output)}"}

      numbers ->
        [answered, errors, broken] = Enum.map(numbers, &String.to_integer/1)
        {:ok, %{by: "wrk", accepted: answered - errors, refused: errors, broken: broken, cut: connections}}
    end
  end

  defp read({:error, reason}, _connections), do: {:error, reason}
end
