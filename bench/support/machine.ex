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
      {"Rust", rust()},
      {"commit", commit()},
      {"date", DateTime.utc_now() |> DateTime.truncate(:second) |> DateTime.to_string()}
    ]
  end

  @doc "A count in the short form of the tables, such as `100 K` or `1 M`."
  @spec count(non_neg_integer()) :: String.t()
  def count(n) when n >= 1_000_000 and rem(n, 1_000_000) == 0, do: "#{div(n, 1_000_000)} M"
  def count(n) when n >= 1_000 and rem(n, 1_000) == 0, do: "#{div(n, 1_000)} K"
  def count(n), do: to_string(n)

  @doc "Resident memory of this VM in bytes as the OS counts it, or `nil` where the OS doesn't say."
  @spec resident_bytes() :: non_neg_integer() | nil
  def resident_bytes, do: status_bytes("self", "VmRSS")

  defp status_bytes(pid, field) do
    with {:ok, status} <- File.read("/proc/#{pid}/status"),
         [_, kilobytes] <- Regex.run(~r/^#{field}:\s+(\d+) kB$/m, status) do
      String.to_integer(kilobytes) * 1024
    else
      _ -> nil
    end
  end

  @doc "The most memory that a process of the OS ever had resident, in bytes, or `nil` where the OS doesn't say."
  @spec peak_bytes(os_pid :: String.t()) :: non_neg_integer() | nil
  def peak_bytes(pid), do: status_bytes(pid, "VmHWM")

  @doc "CPU time of a process of the OS so far in ticks of 10 ms, or `nil` where the OS doesn't say."
  @spec cpu_ticks(os_pid :: String.t()) :: non_neg_integer() | nil
  def cpu_ticks(pid) do
    with {:ok, stat} <- File.read("/proc/#{pid}/stat"), do: own_ticks(stat), else: (_ -> nil)
  end

  @doc "Percent of all cores that went to a process between two `cpu_ticks/1`, so many ms apart."
  @spec cpu_share(non_neg_integer() | nil, non_neg_integer() | nil, pos_integer()) :: float() | nil
  def cpu_share(nil, _, _ms), do: nil
  def cpu_share(_, nil, _ms), do: nil
  def cpu_share(before, later, ms), do: 100 * (later - before) * 10 / (ms * :erlang.system_info(:logical_processors))

  @doc """
  A reading of the CPU clocks, for `others_percent/2`; `nil` where the OS has no such files. In ticks: of all CPUs whether
  busy or not, of all that ran, and of this VM.
  """
  @spec cpu_reading() :: {non_neg_integer(), non_neg_integer(), non_neg_integer()} | nil
  def cpu_reading do
    with {:ok, machine} <- File.read("/proc/stat"), {:ok, own} <- File.read("/proc/self/stat") do
      [user, nice, system, idle, wait, irq, softirq, steal | _] = machine |> first_line() |> integers()

      busy = user + nice + system + irq + softirq + steal
      {busy + idle + wait, busy, own_ticks(own)}
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

  # User and system time. The second field is the command's name in parentheses, which may hold blanks.
  defp own_ticks(stat) do
    [_, after_name] = String.split(stat, ") ", parts: 2)
    after_name |> String.split() |> Enum.slice(11, 2) |> Enum.map(&String.to_integer/1) |> Enum.sum()
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

  defp rust do
    case output("rustc", ["--version"]) do
      {:ok, "rustc " <> version} -> version
      :error -> "unknown"
    end
  end

  defp git(args), do: output("git", args)

  defp output(program, args) do
    with path when path != nil <- System.find_executable(program),
         {output, 0} <- System.cmd(path, args, cd: __DIR__, stderr_to_stdout: true) do
      {:ok, String.trim(output)}
    else
      _ -> :error
    end
  end
end
