defmodule PaymentQueue.Soak.Recovery do
  @moduledoc """
  What another VM finds in a copy of a durable queue's directory, taken while the queue has items: as after a `kill -9`, there has
  to be what waits, what is dead, and nothing that was settled. The dead letters are in their order, and what waits is in the
  order in which each process enqueued it: two processes that enqueue at the same moment may get their numbers in one order
  and their places in the other.
  """

  alias PaymentQueue.Bench.ChildVm
  alias PaymentQueue.Soak.{Caller, Kind, Line, Payload}

  # The store tidies up in the background. A copy of a directory that changed meanwhile is none.
  @tries 20

  @doc "Checks a paused line in which these items wait."
  @spec check(Line.t(), [Payload.id()]) :: :ok
  def check(line, waiting) do
    :ok = PaymentQueue.flush(line.queue, timeout: 600_000)
    path = PaymentQueue.info(line.queue).storage.path
    dir = Path.join(Path.dirname(path), "copy_of_#{line.queue}")
    copy(path, Path.join(dir, Path.basename(path)), @tries)
    there = ChildVm.run(__MODULE__, :read, [Keyword.merge(Kind.options(line.kind), name: line.queue, dir: dir)])
    File.rm_rf!(dir)

    here = %{waiting: PaymentQueue.peek(1_000_000, line.queue), dead: dead(line.queue)}
    ids = for payload <- there.waiting, {:ok, id} <- [Payload.read(payload)], do: id

    for {what, true} <- [
          {"what waits differs", Enum.sort(there.waiting) != Enum.sort(here.waiting)},
          {"what waits is not what was accepted", Enum.sort(ids) != Enum.sort(waiting)},
          {"what one process enqueued is in another order", not Caller.in_order?(ids)},
          {"what is dead differs", there.dead != here.dead}
        ],
        do: Line.violate(line, :recovery, "in a copy of the directory, #{what}: #{difference(there, here)}")

    :ok
  end

  defp difference(there, here) do
    shown = fn items -> inspect(items, limit: 20, printable_limit: 40) end

    for {name, items, others} <- [{"there", there, here}, {"here", here, there}] do
      "#{name} #{length(items.waiting)} waiting and #{length(items.dead)} dead, of these alone there " <>
        "#{shown.(Enum.take(items.waiting -- others.waiting, 3))} and #{shown.(Enum.take(items.dead -- others.dead, 3))}; "
    end
  end

  @doc "In the other VM: opens the queue and says what is there."
  @spec read(keyword()) :: %{waiting: [term()], dead: [term()]}
  def read(options) do
    Logger.configure(level: :none)
    {:ok, _} = options |> Keyword.drop([:concurrency, :handler_timeout]) |> PaymentQueue.start_link()
    %{waiting: PaymentQueue.peek(1_000_000, options[:name]), dead: dead(options[:name])}
  end

  defp dead(queue), do: for(letter <- PaymentQueue.dead_letters(queue, 1_000_000), do: Map.delete(letter, :died_at))

  defp copy(from, to, tries) do
    File.rm_rf!(to)
    File.mkdir_p!(Path.dirname(to))
    before = listing(from)

    case File.cp_r(from, to) do
      {:ok, _} -> if listing(from) != before, do: again(from, to, tries)
      {:error, :enoent, _} -> again(from, to, tries)
    end
  rescue
    # As above: a file that was there is gone. `File.cp_r/2` raises for some of its steps.
    File.Error -> again(from, to, tries)
  end

  defp again(from, _to, 0), do: raise("#{from} did not keep still for a copy")

  defp again(from, to, tries) do
    PaymentQueue.Soak.Waiting.pass(100)
    copy(from, to, tries - 1)
  end

  defp listing(dir) do
    for path <- Path.wildcard(Path.join(dir, "**"), match_dot: true) do
      case File.stat(path, time: :posix) do
        {:ok, stat} -> {path, stat.size, stat.mtime, stat.inode}
        {:error, _} -> {path, :gone}
      end
    end
  end
end
