defmodule PaymentQueue.Soak.Vitals do
  @moduledoc """
  What the VM as a whole uses at a quiet point, and whether it grows from one to the next. What has to be the same each time is
  compared with the first reading; what settles first, such as memory, with the most of the first rounds.
  """

  alias PaymentQueue.Bench.Machine
  alias PaymentQueue.Soak.Waiting

  @typedoc "`monitors`: the most resources of native code that monitor one process; `memory` and `disk`: of all queues, as
  they count it."
  @type reading :: %{
          rss: non_neg_integer() | nil,
          memory: non_neg_integer(),
          disk: non_neg_integer(),
          processes: pos_integer(),
          ports: non_neg_integer(),
          tables: pos_integer(),
          atoms: pos_integer(),
          fds: non_neg_integer() | nil,
          threads: pos_integer() | nil,
          monitors: non_neg_integer()
        }

  @mib 1_048_576

  @doc "Rounds after which memory, atoms and files have found their level."
  @spec warm_up() :: pos_integer()
  def warm_up, do: 8

  # What each may grow beyond the most of the first rounds.
  @slack [
    rss: 64 * @mib,
    memory: 8 * @mib,
    disk: 512 * @mib,
    processes: 0,
    ports: 0,
    tables: 0,
    atoms: 200,
    fds: 32,
    threads: 2,
    monitors: 0
  ]

  # After the load some processes are still on their way out, or are being replaced.
  @deadline_ms 30_000

  @doc "The slack of each reading."
  @spec slack() :: keyword(non_neg_integer())
  def slack, do: @slack

  @doc """
  A reading, with these findings of the lines, after every process has collected its garbage. Waits until there are no more
  processes than at an earlier reading.
  """
  @spec read([%{memory: non_neg_integer(), disk: non_neg_integer()}], reading() | nil) :: reading()
  def read(findings, first) do
    if first, do: Waiting.until(@deadline_ms, fn -> :erlang.system_info(:process_count) <= first.processes end)
    Enum.each(Process.list(), &:erlang.garbage_collect/1)

    %{
      rss: Machine.resident_bytes(),
      memory: findings |> Enum.map(& &1.memory) |> Enum.sum(),
      disk: findings |> Enum.map(& &1.disk) |> Enum.sum(),
      processes: :erlang.system_info(:process_count),
      ports: :erlang.system_info(:port_count),
      tables: length(:ets.all()),
      atoms: :erlang.system_info(:atom_count),
      fds: count("/proc/self/fd"),
      threads: count("/proc/self/task"),
      monitors: Process.list() |> Enum.map(&monitors/1) |> Enum.max()
    }
  end

  defp count(directory) do
    case File.ls(directory) do
      {:ok, names} -> length(names)
      {:error, _} -> nil
    end
  end

  # Other processes that monitor one are pids; native code's monitors show as references.
  defp monitors(pid) do
    case Process.info(pid, :monitored_by) do
      {:monitored_by, by} -> Enum.count(by, &is_reference/1)
      nil -> 0
    end
  end

  @doc "What has grown, in the newest of these readings, oldest first. Until the warm-up is over nothing has."
  @spec grown([reading()]) :: [{atom(), String.t()}]
  def grown(readings) do
    {first, later} = Enum.split(readings, warm_up())

    for reading <- Enum.take(later, -1), {key, slack} <- @slack, value = reading[key], most = most(first, key) do
      if value > most + slack,
        do:
          {:leak,
           "#{key}: #{value} after #{length(readings)} rounds, #{most} at most in the first #{warm_up()}, slack #{slack}"}
    end
    |> Enum.reject(&is_nil/1)
  end

  defp most(readings, key), do: readings |> Enum.map(& &1[key]) |> Enum.max()
end
