defmodule PaymentQueue.Durable.KillTest do
  # A VM under load, killed with SIGKILL at a random moment, over and over on one directory. What it said to be accepted is
  # there afterwards; what it said to be settled and flushed is not.
  use PaymentQueue.QueueCase, async: false

  alias PaymentQueue.ChildVm

  @moduletag timeout: 600_000

  setup do: {:ok, dir: scratch_dir()}

  @rounds 50
  @async_rounds 10

  # Prints `found n` for each item at the start, then `ready`. Then, under load, it writes to a file, by a system call each,
  # for what the VM has only in its own buffers dies with it: `accepted n` when the queue has answered (with :async, when it
  # is flushed), `acking n` before an item is settled, `settled n` when that is flushed, and `broken ...` when an item is handed
  # out that is not the next of its partition. Items of the producers 1 to 4 have a key, their number, and a partition, the producer.
  @load """
  {:ok, _} =
    PaymentQueue.start_link(name: :q, dir: bindings[:dir], durability: bindings[:durability], capacity: 3_000,
      max_attempts: 60_000, unique_for: 3_600_000)
  lines = fn word, numbers -> for n <- numbers, do: [word, " ", Integer.to_string(n), "\\n"] end

  # A raw file belongs to the process that opened it.
  say = fn word, numbers ->
    file = Process.get(:file) || elem(:file.open(bindings[:file], [:append, :raw]), 1)
    Process.put(:file, file)
    :ok = :file.write(file, lines.(word, numbers))
  end

  full = fn -> receive do after 1 -> :ok end end
  flushed = fn -> if bindings[:durability] == :async, do: :ok = PaymentQueue.flush(:q), else: :ok end
  # What was to be retried after a millisecond is in sight as soon as it is due.
  in_sight = fn in_sight -> if PaymentQueue.info(:q).scheduled > 0, do: (receive do after 2 -> in_sight.(in_sight) end) end
  in_sight.(in_sight)
  found = for {n, _} <- PaymentQueue.peek(1_000_000, :q), do: n
  IO.write(lines.("found", found))
  producer = fn n -> n |> div(1_000_000) |> rem(1_000) end
  # What waits and what was settled has its key still.
  keyed = Enum.filter(bindings[:settled] ++ found, &(producer.(&1) in 1..4))
  free = for n <- keyed, PaymentQueue.enqueue({n, "again"}, queue: :q, key: n) != {:error, :duplicate}, do: n
  IO.write(lines.("free", free))
  IO.puts("ready")

  loop = fn loop, work, n -> work.(n); loop.(loop, work, n + 1) end
  number = fn producer, n -> bindings[:round] * 1_000_000_000 + producer * 1_000_000 + n end

  one = fn producer ->
    fn n ->
      n = number.(producer, n)

      case PaymentQueue.enqueue({n, :binary.copy("x", rem(n, 700))}, queue: :q, key: n, partition: producer) do
        :ok -> flushed.() && say.("accepted", [n])
        {:error, :queue_full} -> full.()
      end
    end
  end

  many = fn producer ->
    fn n ->
      numbers = for i <- 0..9, do: number.(producer, 10 * n + i)

      case PaymentQueue.enqueue_many(for(n <- numbers, do: {n, "many"}), queue: :q) do
        {:ok, 10} -> flushed.() && say.("accepted", numbers)
        {:error, :queue_full, n} -> flushed.() && say.("accepted", Enum.take(numbers, n)) && full.()
      end
    end
  end

  turns = :ets.new(:turns, [:public])

  begin = fn n ->
    line = producer.(n)
    unless :ets.insert_new(turns, {{:out, line}}), do: say.("broken two at once", [n])
    unless n >= :ets.lookup_element(turns, line, 2), do: say.("broken order", [n])
    :ets.insert(turns, {line, n})
  end

  over = fn n -> :ets.delete(turns, {:out, producer.(n)}) end
  for line <- 1..4, do: :ets.insert(turns, {line, 0})

  settle = fn _ ->
    {:ok, {n, _}, lease} = PaymentQueue.take(queue: :q, timeout: :infinity)
    is_keyed = producer.(n) in 1..4
    if is_keyed, do: begin.(n)

    if rem(n, 5) == 0 and PaymentQueue.attempt(lease) == 1 do
      if is_keyed, do: over.(n)
      :ok = PaymentQueue.nack(lease, delay: 1)
    else
      say.("acking", [n])
      if is_keyed, do: over.(n)
      :ok = PaymentQueue.ack(lease)
      :ok = PaymentQueue.flush(:q)
      say.("settled", [n])
    end
  end

  for producer <- 1..4, do: spawn_link(fn -> loop.(loop, one.(producer), 1) end)
  spawn_link(fn -> loop.(loop, many.(5), 1) end)
  for _ <- 1..3, do: spawn_link(fn -> loop.(loop, settle, 1) end)
  receive do: (:never -> :ok)
  """

  for {durability, rounds} <- [sync: @rounds, async: @async_rounds] do
    test "#{durability}: #{rounds} kills lose nothing acknowledged and bring back nothing settled", %{dir: dir} do
      said = %{"accepted" => MapSet.new(), "acking" => MapSet.new(), "settled" => MapSet.new()}

      said =
        Enum.reduce(1..unquote(rounds), said, fn round, said ->
          file = Path.join(dir, "said_#{round}")
          vm = start(unquote(durability), dir, round, file, said)
          check(found(vm, []), said, round)
          let_pass(Enum.random(1..400))
          ChildVm.kill(vm)
          # One that was killed before it had done anything has said nothing.
          if File.exists?(file), do: file |> File.stream!() |> Enum.reduce(said, &hear/2), else: said
        end)

      file = Path.join(dir, "said_last")
      vm = start(unquote(durability), dir, 0, file, said)
      check(found(vm, []), said, :last)
      ChildVm.kill(vm)
      counts = Map.new(said, fn {word, numbers} -> {word, MapSet.size(numbers)} end)
      IO.puts("\n#{unquote(durability)}: #{unquote(rounds)} kills, #{inspect(counts)}, 0 lost, 0 back")
      assert counts["accepted"] > 10 * unquote(rounds) and counts["settled"] > unquote(rounds), "hardly any load"
    end
  end

  # Of what was settled some, the youngest among them.
  defp start(durability, dir, round, file, said) do
    settled = said["settled"] |> Enum.sort(:desc) |> Enum.take(300)
    ChildVm.start(@load, dir: dir, durability: durability, round: round, file: file, settled: settled)
  end

  defp found(vm, numbers) do
    case ChildVm.line(vm) do
      "free " <> n -> flunk("the key of #{n} is free, or the queue is full")
      "found " <> n -> found(vm, [String.to_integer(n) | numbers])
      "ready" -> numbers
      other -> if other =~ "[info]" or other == "", do: found(vm, numbers), else: flunk("the VM said #{inspect(other)}")
    end
  end

  defp hear("broken " <> what, _said), do: flunk("not the next of its partition: #{what}")

  # A line that the kill cut in two says nothing.
  defp hear(line, said) do
    with [word, number] when is_map_key(said, word) <- String.split(line, " "),
         {n, "\n"} <- Integer.parse(number) do
      Map.update!(said, word, &MapSet.put(&1, n))
    else
      _ -> said
    end
  end

  defp check(found, said, round) do
    assert length(found) == length(Enum.uniq(found)), "round #{round}: an item is there twice"
    found = MapSet.new(found)
    lost = said["accepted"] |> MapSet.difference(found) |> MapSet.difference(said["acking"])
    assert MapSet.size(lost) == 0, "round #{round}: lost #{inspect(lost)}"
    back = MapSet.intersection(found, said["settled"])
    assert MapSet.size(back) == 0, "round #{round}: settled and back: #{inspect(back)}"
  end
end
