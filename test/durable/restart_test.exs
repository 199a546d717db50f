defmodule PaymentQueue.Durable.RestartTest do
  # What another VM finds in the directory.
  use PaymentQueue.QueueCase, async: true

  alias PaymentQueue.ChildVm

  @moduletag timeout: 120_000

  setup do: {:ok, dir: scratch_dir()}

  # Each script runs in a VM that is killed in the end; `p.(term)` says something to the test.
  @prologue """
  p = fn term -> IO.puts("=" <> inspect(term, limit: :infinity)) end
  start = fn opts ->
    PaymentQueue.start_link([name: :q, dir: bindings[:dir], durability: bindings[:durability]] ++ opts)
  end
  die = fn -> System.cmd("kill", ["-9", System.pid()]) end
  _ = {p, start, die}
  """

  @before_the_kill """
  {:ok, _} = start.(max_attempts: 3)
  {:ok, 10} = PaymentQueue.enqueue_many(Enum.to_list(1..10), queue: :q)
  :ok = PaymentQueue.enqueue(:soon, queue: :q, delay: 10_000)
  :ok = PaymentQueue.enqueue(:late, queue: :q, delay: 600_000)
  [{1, one}, {2, two}, {3, _}, {4, four}, {5, five}] = PaymentQueue.take_many(5, queue: :q)
  :ok = PaymentQueue.reject(one, :wrong)
  {:ok, 1} = PaymentQueue.requeue_dead(:q)
  :ok = PaymentQueue.reject(five, {:no, "such account"})
  :ok = PaymentQueue.nack(two)
  for _ <- 2..3, do: ({:ok, 2, again} = PaymentQueue.take(queue: :q); :ok = PaymentQueue.nack(again))
  :ok = PaymentQueue.nack(four)
  {:ok, 4, _} = PaymentQueue.take(queue: :q)
  :ok = PaymentQueue.flush(:q)
  die.()
  """

  @after_the_kill """
  {:ok, _} = start.(max_attempts: 5)
  p.(PaymentQueue.info(:q))
  p.(PaymentQueue.peek(20, :q))
  p.(for letter <- PaymentQueue.dead_letters(:q), do: Map.take(letter, [:payload, :reason, :attempts]))
  take = fn timeout ->
    with {:ok, payload, lease} <- PaymentQueue.take(queue: :q, timeout: timeout), do: {payload, PaymentQueue.attempt(lease)}
  end
  p.(for _ <- 1..8, do: take.(0))
  p.([take.(60_000)])
  """

  # What the script said, as terms.
  defp vm(dir, script, durability \\ :sync) do
    vm = ChildVm.start(@prologue <> script, dir: dir, durability: durability)
    said(vm, [], [])
  end

  defp said(vm, terms, log) do
    case ChildVm.line(vm) do
      "=" <> term -> said(vm, [Code.eval_string(term) |> elem(0) | terms], log)
      {:exit, status} when status in [0, 137] -> Enum.reverse(terms)
      {:exit, status} -> flunk("status #{status}:\n#{log |> Enum.reverse() |> Enum.join("\n")}")
      line -> said(vm, terms, [line | log])
    end
  end

  for durability <- [:sync, :async] do
    test "#{durability}: order, attempts, schedules and dead letters are as they were", %{dir: dir} do
      vm(dir, @before_the_kill, unquote(durability))

      assert [info, heads, dead, taken, later] = vm(dir, @after_the_kill, unquote(durability))
      assert %{queue_size: 8, scheduled: 2, dead: 2, in_flight: 0, enqueued: 12, bytes: bytes} = info
      assert bytes > 0
      assert info.oldest_ms > 0 and info.storage.recovered == 12 and info.durability == unquote(durability)
      # What was in flight or had come back is at the head, oldest first; then the rest; then what was requeued.
      assert heads == [3, 4, 6, 7, 8, 9, 10, 1]

      assert [
               %{payload: 5, reason: {:no, "such account"}, attempts: 1},
               %{payload: 2, reason: :max_attempts, attempts: 3}
             ] = dead

      assert taken == [{3, 2}, {4, 3}, {6, 1}, {7, 1}, {8, 1}, {9, 1}, {10, 1}, {1, 1}]
      assert later == [{:soon, 1}]
    end
  end

  @tags_before """
  {:ok, _} = start.(priorities: 3, unique_for: 3_600_000)
  put = fn item, opts -> :ok = PaymentQueue.enqueue(item, [queue: :q] ++ opts) end
  put.(:low, priority: 2, key: :low)
  put.(:settled, key: :settled)
  put.(:rejected, key: :rejected, partition: :r)
  put.({:r, 2}, partition: :r)
  for n <- 1..3, do: put.({:a, n}, partition: :a)
  for n <- 1..2, do: put.({:b, n}, partition: :b, priority: 1)
  put.({:b, :later}, partition: :b, delay: 600_000, key: {:b, :later})
  put.(:purged, key: :purged, delay: 700_000)
  for item <- [:settled, :rejected, {:r, 2}, {:a, 1}, {:b, 1}] do
    {:ok, ^item, lease} = PaymentQueue.take(queue: :q)
    case item do
      :rejected -> :ok = PaymentQueue.reject(lease, :no)
      {:a, 1} -> :ok = PaymentQueue.nack(lease, delay: 3_000)
      {:b, 1} -> :in_flight
      _ -> :ok = PaymentQueue.ack(lease)
    end
  end
  :ok = PaymentQueue.flush(:q)
  p.(PaymentQueue.info(:q) |> Map.take([:keys, :held, :queue_size, :in_flight, :scheduled, :dead]))
  die.()
  """

  @tags_after """
  {:ok, _} = start.(priorities: 3, unique_for: 3_600_000)
  p.(PaymentQueue.info(:q) |> Map.take([:keys, :queue_size, :scheduled, :dead]))
  p.(for key <- [:low, :settled, :rejected, {:b, :later}, :new], do: PaymentQueue.enqueue(:again, queue: :q, key: key, priority: 1))
  take = fn timeout ->
    with {:ok, item, lease} <- PaymentQueue.take(queue: :q, timeout: timeout), do: {{item, PaymentQueue.attempt(lease)}, lease}
  end
  {{{:b, 1}, 2}, b} = take.(0)
  # The others of both partitions wait: for the one that is out, and for the one that comes back later.
  p.(for _ <- 1..4, do: with({item, lease} <- take.(0), do: (:ok = PaymentQueue.ack(lease); item)))
  :ok = PaymentQueue.ack(b)
  p.(elem(take.(0), 0))
  {:ok, 1} = PaymentQueue.requeue_dead(:q)
  p.(elem(take.(0), 0))
  # When its time has come, its partition goes on.
  p.(for _ <- 1..3, do: with({item, lease} <- take.(60_000), do: (:ok = PaymentQueue.ack(lease); item)))
  """

  for durability <- [:sync, :async] do
    test "#{durability}: keys, partitions and priorities are as they were", %{dir: dir} do
      assert [before] = vm(dir, @tags_before, unquote(durability))
      assert before == %{keys: 5, held: 2, queue_size: 4, in_flight: 1, scheduled: 3, dead: 1}

      assert [info, again, taken, next, requeued, returned] = vm(dir, @tags_after, unquote(durability))
      assert info == %{keys: 5, queue_size: 5, scheduled: 3, dead: 1}
      duplicate = {:error, :duplicate}
      assert again == [duplicate, duplicate, duplicate, duplicate, :ok]
      assert taken == [{:again, 1}, {:low, 1}, :empty, :empty]
      assert next == {{:b, 2}, 1}
      assert requeued == {:rejected, 1}
      assert returned == for(n <- 1..3, do: {{:a, n}, if(n == 1, do: 2, else: 1)})
    end
  end

  test "keys are free when their time is over, though nobody was there, and unknown where none are kept", %{dir: dir} do
    start = fn unique_for -> "{:ok, _} = start.(unique_for: #{inspect(unique_for)})\n" end

    vm(
      dir,
      start.(1) <>
        """
        :ok = PaymentQueue.enqueue(:soon, queue: :q, key: :soon)
        {:ok, :soon, _} = PaymentQueue.dequeue(queue: :q)
        :ok = PaymentQueue.configure(:q, unique_for: 3_600_000)
        :ok = PaymentQueue.enqueue(:long, queue: :q, key: :long)
        {:ok, :long, _} = PaymentQueue.dequeue(queue: :q)
        :ok = PaymentQueue.enqueue(:waits, queue: :q, key: :waits)
        :ok = PaymentQueue.flush(:q)
        die.()
        """
    )

    keys = "p.(PaymentQueue.info(:q).keys)\n"
    assert [0] = vm(dir, start.(nil) <> keys)

    assert [2, [:ok, {:error, :duplicate}, {:error, :duplicate}]] =
             vm(
               dir,
               start.(3_600_000) <>
                 keys <>
                 """
                 p.(for key <- [:soon, :long, :waits], do: PaymentQueue.enqueue(key, queue: :q, key: key))
                 """
             )
  end

  test "every kind of payload comes back as it was", %{dir: dir} do
    payloads = ~s'''
    [1, -1.5, 2 ** 100, :atom, "text", <<1::3>>, [], [1 | 2], {}, {:a, ["b"]}, %{a: %{"b" => ~D[2024-02-29]}}, nil,
     :binary.copy("x", 3_000), :binary.copy("y", 200_000), Enum.to_list(1..5_000), %{big: :binary.copy("z", 100_000)}, 'abc', "ü", :ü]
    '''

    payloads = String.trim(payloads)
    vm(dir, "{:ok, _} = start.([]); for x <- #{payloads}, do: :ok = PaymentQueue.enqueue(x, queue: :q); die.()")

    [same] =
      vm(dir, """
      {:ok, _} = start.([])
      wanted = #{payloads}
      taken = for _ <- wanted, do: elem(PaymentQueue.dequeue(queue: :q), 1)
      p.(taken == wanted)
      """)

    assert same
  end

  test "what was settled before an orderly stop is not delivered after it", %{dir: dir} do
    vm(
      dir,
      """
      {:ok, tree} = start.(handler: fn _ -> :ok end, concurrency: 4)
      {:ok, 500} = PaymentQueue.enqueue_many(Enum.to_list(1..500), queue: :q)
      :ok = PaymentQueue.drain(:q, timeout: 30_000)
      Supervisor.stop(tree)
      die.()
      """,
      :async
    )

    assert [0] = vm(dir, "{:ok, _} = start.([]); p.(PaymentQueue.stats(:q).queue_size)")
  end

  test "an item that ends its VM each time is a dead letter in the end", %{dir: dir} do
    vm(dir, "{:ok, _} = start.(max_attempts: 2); :ok = PaymentQueue.enqueue(:poison, queue: :q); die.()")

    take = """
    {:ok, _} = start.(max_attempts: 2)
    p.({PaymentQueue.stats(:q).queue_size, PaymentQueue.info(:q).dead})
    _ = PaymentQueue.take(queue: :q)
    :ok = PaymentQueue.flush(:q)
    p.(PaymentQueue.dead_letters(:q))
    die.()
    """

    assert [{1, 0}, []] = vm(dir, take)
    assert [{1, 0}, []] = vm(dir, take)
    assert [{0, 1}, [%{payload: :poison, attempts: 2, reason: :consumer_down}]] = vm(dir, take)
    # And stays one.
    assert [{0, 1}, [%{payload: :poison}]] = vm(dir, take)
  end

  test "the second VM on a directory is told who has it", %{dir: dir} do
    first =
      ChildVm.start(@prologue <> "{:ok, _} = start.([]); p.(System.pid()); Process.sleep(:infinity)",
        dir: dir,
        durability: :sync
      )

    "=" <> pid = ChildVm.line(first)
    {pid, _} = Code.eval_string(pid)
    start = "Process.flag(:trap_exit, true); p.(start.([]))"
    assert [{:error, {:storage, :in_use, detail}}] = vm(dir, start)
    assert detail =~ "is open in OS process #{pid}"
    ChildVm.kill(first)
    assert ["ok"] = vm(dir, "{:ok, _} = start.([]); p.(\"ok\")")
  end

  test "a newer format and another queue's directory are refused, with what is wrong", %{dir: dir} do
    vm(dir, "{:ok, _} = start.([]); :ok = PaymentQueue.enqueue(1, queue: :q)")
    format = Path.join([dir, "q", "format"])
    assert File.read!(format) == "payment_queue format 1\nq\n"
    start = "Process.flag(:trap_exit, true); p.(start.([]))"
    File.write!(format, "payment_queue format 2\nq\n")
    assert [{:error, {:storage, :newer_format, detail}}] = vm(dir, start)
    assert detail =~ "says format 2; this version reads up to 1"
    File.write!(format, "payment_queue format 1\nrefunds\n")
    assert [{:error, {:storage, :other_queue, _}}] = vm(dir, start)
    File.write!(format, "payment_queue format 1\nq\n")
    assert [1] = vm(dir, "{:ok, _} = start.([]); p.(PaymentQueue.stats(:q).queue_size)")
  end

  test "a damaged journal is an error that says what to do, and costs nothing", %{dir: dir} do
    vm(dir, "{:ok, _} = start.([]); for n <- 1..50, do: :ok = PaymentQueue.enqueue(n, queue: :q)")
    journal = Path.join([dir, "q", "db", "0.jnl"])
    good = File.read!(journal)
    <<before::binary-size(1_000), byte, rest::binary>> = good
    File.write!(journal, [before, Bitwise.bxor(byte, 1), rest])
    start = "Process.flag(:trap_exit, true); p.(start.([]))"
    assert [{:error, {:storage, :damaged, detail}}] = vm(dir, start)
    assert detail =~ "0.jnl is damaged at byte" and detail =~ "truncate -s"
    File.write!(journal, good)
    assert [50] = vm(dir, "{:ok, _} = start.([]); p.(PaymentQueue.stats(:q).queue_size)")
  end

  test "atoms from disk are bounded; what would bring too many is kept as a dead letter", %{dir: dir} do
    vm(dir, """
    {:ok, _} = start.([])
    :ok = PaymentQueue.enqueue(%{__struct__: :"Elixir.Not.Loaded.Yet", amount: 1}, queue: :q)
    :ok = PaymentQueue.enqueue(for(n <- 1..300, do: :"attack_\#{n}"), queue: :q)
    :ok = PaymentQueue.enqueue(:fine, queue: :q)
    """)

    assert [first, second, 1, [dead], shown, true] =
             vm(dir, """
             Application.put_env(:payment_queue, :max_new_atoms, 200)
             {:ok, _} = start.([])
             {:ok, first, lease} = PaymentQueue.take(queue: :q)
             :ok = PaymentQueue.ack(lease)
             p.(Map.delete(first, :__struct__))
             {:ok, second, _} = PaymentQueue.take(queue: :q)
             p.(second)
             p.(PaymentQueue.info(:q).dead)
             [dead] = PaymentQueue.dead_letters(:q)
             p.([dead.reason])
             p.(elem(dead.payload, 0))
             p.(try do: (_ = String.to_existing_atom("attack_" <> "299"); false), rescue: (ArgumentError -> true))
             """)

    assert first == %{amount: 1}
    assert second == :fine
    assert dead == {:undecodable, :too_many_new_atoms}
    assert shown == :undecodable
  end

  test "files are the owner's alone, whatever the umask", %{dir: dir} do
    vm(dir, "{:ok, _} = start.([]); :ok = PaymentQueue.enqueue(1, queue: :q)")

    for path <- Path.wildcard(Path.join(dir, "q/**"), match_dot: true) do
      %{mode: mode, type: type} = File.stat!(path)
      assert Bitwise.band(mode, 0o777) == if(type == :directory, do: 0o700, else: 0o600), path
    end

    assert Bitwise.band(File.stat!(Path.join(dir, "q")).mode, 0o777) == 0o700
  end
end
