# Durable queues: enqueues per second against the disk's own fdatasync rate, recovery, space.
#
#     mix run bench/durable.exs                  # about 1 minute
#     mix run bench/durable.exs --seconds 10 --items 1000000 --dir /mnt/disk
#     mix run bench/durable.exs --quick          # does everything work?

defmodule PaymentQueue.Bench.Durable do
  @moduledoc "Each cell checks its own result; a wrong one ends the bench with status 1."

  alias PaymentQueue.Bench.{Machine, Statistics}

  @callers [1, 8, 64, 1_000]
  @payload_bytes 256

  def run(args) do
    options = options(args)
    dir = Path.join(options.dir, "payment_queue_bench_#{System.pid()}")
    File.mkdir_p!(dir)

    try do
      for {label, value} <- Machine.facts(), do: IO.puts("#{String.pad_trailing(label, 9)} #{value}")
      IO.puts("disk      #{disk(dir)}\n")
      enqueues(dir, options.seconds)
      recovery(dir, options.items)
    after
      File.rm_rf!(dir)
    end
  end

  defp options(args) do
    strict = [seconds: :integer, items: :integer, dir: :string, quick: :boolean]
    {given, [], []} = OptionParser.parse(args, strict: strict)
    base = if given[:quick], do: %{seconds: 1, items: 50_000}, else: %{seconds: 5, items: 1_000_000}
    Map.merge(Map.put(base, :dir, System.tmp_dir!()), given |> Keyword.delete(:quick) |> Map.new())
  end

  defp disk(dir) do
    case System.cmd("df", ["--output=fstype,source", dir], stderr_to_stdout: true) do
      {text, 0} -> text |> String.split("\n") |> Enum.at(1) |> String.split() |> Enum.join(", ")
      _ -> "unknown"
    end
  end

  # --- enqueues --------------------------------------------------------------------------------------------------

  defp enqueues(dir, seconds) do
    IO.puts(
      "| payload #{@payload_bytes} B | enqueues/s | commits/s | per fdatasync of the disk | p50 | p99 | others' CPU |"
    )

    IO.puts("|---|---|---|---|---|---|---|")
    for callers <- @callers, do: cell(dir, :sync, callers, seconds)
    for callers <- [1, 64], do: cell(dir, :async, callers, seconds)
    IO.puts("")
  end

  defp cell(dir, durability, callers, seconds) do
    queue = :"bench_#{durability}_#{callers}"
    {:ok, _} = start(queue, dir, durability)
    # The disk's own rate before and after: it changes with what else the disk does.
    before = fdatasyncs(dir)
    commits = PaymentQueue.info(queue).storage.commits
    reading = Machine.cpu_reading()
    latencies = load(queue, callers, seconds)
    others = Machine.others_percent(reading, Machine.cpu_reading())
    commits = PaymentQueue.info(queue).storage.commits - commits
    floor = (before + fdatasyncs(dir)) / 2

    check(
      PaymentQueue.stats(queue).queue_size == length(latencies),
      "#{queue}: the queue holds another number of items"
    )

    rate = length(latencies) / seconds

    row([
      ":#{durability}, #{callers} callers",
      thousands(rate),
      thousands(commits / seconds),
      "#{Float.round(rate / floor, 2)} of #{thousands(floor)}/s",
      "#{Statistics.percentile(latencies, 50)} µs",
      "#{Statistics.percentile(latencies, 99)} µs",
      "#{others} %"
    ])

    {:ok, _} = PaymentQueue.purge(queue)
  end

  defp start(queue, dir, durability) do
    # Recovered items are a list of log lines otherwise.
    Logger.configure(level: :warning)

    PaymentQueue.start_link(
      name: queue,
      dir: dir,
      durability: durability,
      capacity: 20_000_000,
      max_bytes: 16_000_000_000
    )
  end

  # The µs of every enqueue of all callers.
  defp load(queue, callers, seconds) do
    payload = :crypto.strong_rand_bytes(@payload_bytes)
    stop = System.monotonic_time(:microsecond) + seconds * 1_000_000
    tasks = for _ <- 1..callers, do: Task.async(fn -> enqueue_until(stop, queue, payload, []) end)
    tasks |> Task.await_many(:infinity) |> Enum.concat()
  end

  defp enqueue_until(stop, queue, payload, latencies) do
    start = System.monotonic_time(:microsecond)

    if start >= stop do
      latencies
    else
      :ok = PaymentQueue.enqueue(payload, queue: queue)
      enqueue_until(stop, queue, payload, [System.monotonic_time(:microsecond) - start | latencies])
    end
  end

  # Appends of as many bytes as a payload has, each with an fdatasync, one after the other, for half a second.
  defp fdatasyncs(dir) do
    path = Path.join(dir, "floor")
    {:ok, file} = :file.open(path, [:write, :raw])
    bytes = :crypto.strong_rand_bytes(@payload_bytes)
    # Written once before: what is measured is the disk, not the file growing.
    :ok = :file.write(file, :binary.copy(<<0>>, 8_000_000))
    :ok = :file.sync(file)
    {:ok, 0} = :file.position(file, 0)
    start = System.monotonic_time(:microsecond)
    count = sync_until(start + 500_000, file, bytes, 0)
    rate = count * 1_000_000 / (System.monotonic_time(:microsecond) - start)
    :ok = :file.close(file)
    File.rm!(path)
    rate
  end

  defp sync_until(stop, file, bytes, count) do
    :ok = :file.write(file, bytes)
    :ok = :file.datasync(file)
    if System.monotonic_time(:microsecond) < stop, do: sync_until(stop, file, bytes, count + 1), else: count + 1
  end

  # --- recovery and space ----------------------------------------------------------------------------------------

  # A VM of its own, since a queue stays open as long as its VM lives.
  @fill """
  Logger.configure(level: :warning)
  [dir, items, bytes] = System.argv()
  {items, bytes} = {String.to_integer(items), String.to_integer(bytes)}
  {:ok, _} = PaymentQueue.start_link(name: :bench_recovery, dir: dir, durability: :async, capacity: items, max_bytes: 16_000_000_000)
  for chunk <- Enum.chunk_every(1..items, 1_000) do
    {:ok, 1_000} = PaymentQueue.enqueue_many(for(n <- chunk, do: <<n::64, 0::size(bytes - 8)-unit(8)>>), queue: :bench_recovery)
  end
  :ok = PaymentQueue.flush(:bench_recovery, timeout: 60_000)
  System.cmd("kill", ["-9", System.pid()])
  """

  defp recovery(dir, items) do
    args = ["-pa", Application.app_dir(:payment_queue, "ebin"), "-e", @fill, dir, "#{items}", "#{@payload_bytes}"]
    {_, 137} = System.cmd(System.find_executable("elixir"), args)
    {us, {:ok, _}} = :timer.tc(fn -> start(:bench_recovery, dir, :async) end)
    check(PaymentQueue.stats(:bench_recovery).queue_size == items, "not all items were recovered")
    full = disk_bytes()
    start = System.monotonic_time(:millisecond)
    check(take_all(1) == items + 1, "the items came back in another order")
    :ok = PaymentQueue.flush(:bench_recovery, timeout: 60_000)
    taken = System.monotonic_time(:millisecond) - start

    IO.puts("| #{items} items of #{@payload_bytes} B | |")
    IO.puts("|---|---|")
    row(["recovered after kill -9, until start_link returned", "#{Float.round(us / 1_000_000, 2)} s"])
    row(["taken and settled, one by one", "#{Float.round(taken / 1_000, 2)} s"])
    row(["on disk before", mebibytes(full)])
    row(["on disk when all was settled", mebibytes(disk_bytes())])
    row(["on disk 10 s later", mebibytes(after_ms(10_000))])
  end

  defp take_all(expected) do
    case PaymentQueue.dequeue(queue: :bench_recovery) do
      {:ok, <<^expected::64, _::binary>>, _} -> take_all(expected + 1)
      {:ok, _, _} -> :out_of_order
      :empty -> expected
    end
  end

  # Space comes back behind the queue's back: this lets the time pass that the row names.
  defp after_ms(ms) do
    receive do
    after
      ms -> disk_bytes()
    end
  end

  defp disk_bytes, do: PaymentQueue.info(:bench_recovery).storage.disk_bytes

  # --- printing --------------------------------------------------------------------------------------------------

  defp row(cells), do: IO.puts("| " <> Enum.join(cells, " | ") <> " |")

  defp thousands(rate) when rate >= 1_000, do: "#{Float.round(rate / 1_000, 1)} K"
  defp thousands(rate), do: "#{round(rate)}"

  defp mebibytes(bytes), do: "#{Float.round(bytes / 1_048_576, 1)} MiB"

  defp check(true, _), do: :ok

  defp check(false, message) do
    IO.puts(:stderr, "wrong result: #{message}")
    System.halt(1)
  end
end

PaymentQueue.Bench.Durable.run(System.argv())
