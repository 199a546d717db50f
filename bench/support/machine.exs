defmodule PaymentQueue.Bench.Machine do
  @moduledoc "What the numbers depend on besides the code: the machine, the versions, the commit, the time."

  @doc "Label and value of each line of a report's header."
  @spec facts() :: [{String.t(), String.t()}]
  def facts do
    [
      {"machine", "#{cpu()}, #{:erlang.system_info(:system_architecture)}"},
      {"cores", "#{System.schedulers_online()} schedulers on #{:erlang.system_info(:logical_processors)} cores"},
      {"load", "#{load()} (1, 5, 15 minutes, before the start)"},
      {"OTP", "#{System.otp_release()} (erts #{:erlang.system_info(:version)}, #{:erlang.system_info(:emu_flavor)})"},
      {"Elixir", System.version()},
      {"commit", commit()},
      {"date", DateTime.utc_now() |> DateTime.truncate(:second) |> DateTime.to_string()}
    ]
  end

  @doc "Resident memory of this VM in bytes as the OS counts it, or `nil` where the OS doesn't say."
  @spec resident_bytes() :: non_neg_integer() | nil
  def resident_bytes do
    with {:ok, status} <- File.read("/proc/self/status"),
         [_, kilobytes] <- Regex.run(~r/^VmRSS:\s+(\d+) kB$/m, status) do
      String.to_integer(kilobytes) * 1024
    else
      _ -> nil
    end
  end

  @doc """
  A reading of the CPU clocks, for `others_percent/2`; `nil` where the OS has no such files. In ticks: of all CPUs whether
  busy or not, of all that ran, and of this VM.
  """
  @spec cpu_reading() :: {non_neg_integer(), non_neg_integer(), non_neg_integer()} | nil
  def cpu_reading do
    with {:ok, machine} <- File.read("/proc/stat"), {:ok, own} <- File.read("/proc/self/stat") do
      [user, nice, system, idle, wait, irq, softirq, steal | _] = machine |> first_line() |> integers()

      # The second field is the command's name in parentheses, which may hold blanks.
      [_, after_name] = String.split(own, ") ", parts: 2)

      [own_user, own_system] = after_name |> String.split() |> Enum.slice(11, 2) |> Enum.map(&String.to_integer/1)

      busy = user + nice + system + irq + softirq + steal
      {busy + idle + wait, busy, own_user + own_system}
    else
      {:error, _} -> nil
    end
  end

  @doc "Percent of the machine's CPU time between two readings that went to anything but this VM."
  @spec others_percent(reading, reading) :: 0..100 | nil
        when reading: {integer(), integer(), integer()} | nil
  def others_percent(nil, _), do: nil
  def others_percent(_, nil), do: nil

  def others_percent({all_before, busy_before, own_before}, {all, busy, own}) do
    round(100 * max(busy - busy_before - (own - own_before), 0) / max(all - all_before, 1))
  end

  defp first_line(text), do: text |> String.split("\n", parts: 2) |> hd()

  defp integers(line), do: for([digits] <- Regex.scan(~r/\d+/, line), do: String.to_integer(digits))

  defp cpu do
    with {:ok, info} <- File.read("/proc/cpuinfo"),
         [_, model] <- Regex.run(~r/^model name\s*:\s*(.+)$/m, info) do
      model
    else
      _ -> "unknown CPU"
    end
  end

  defp load do
    case File.read("/proc/loadavg") do
      {:ok, averages} -> averages |> String.split() |> Enum.take(3) |> Enum.join(" ")
      {:error, _} -> "unknown"
    end
  end

  defp commit do
    with {:ok, hash} <- git(["rev-parse", "--short", "HEAD"]),
         {:ok, changes} <- git(["status", "--porcelain"]) do
      if changes == "", do: hash, else: hash <> " with changes"
    else
      :error -> "none"
    end
  end

  defp git(args) do
    with git when git != nil <- System.find_executable("git"),
         {output, 0} <- System.cmd(git, args, cd: __DIR__, stderr_to_stdout: true) do
      {:ok, String.trim(output)}
    else
      _ -> :error
    end
  end
end
