defmodule PaymentQueue.Durable.DiskTest do
  # What callers see of a disk that is full or slow. A small tmpfs, which takes root to mount; without it the tests are skipped.
  use PaymentQueue.QueueCase, async: false

  @moduletag :tmpfs

  setup do
    dir = scratch_dir()
    {_, 0} = System.cmd("mount", ["-t", "tmpfs", "-o", "size=24m", "tmpfs", dir])
    on_exit(fn -> System.cmd("umount", ["-l", dir]) end)
    {:ok, dir: dir}
  end

  defp fill_up(dir) do
    ballast = Path.join(dir, "ballast")
    {:ok, file} = :file.open(ballast, [:write, :raw])
    fill_up(file, 65_536)
    fill_up(file, 512)
    :ok = :file.close(file)
    ballast
  end

  defp fill_up(file, bytes) when is_integer(bytes),
    do: if(:file.write(file, :binary.copy(<<7>>, bytes)) == :ok, do: fill_up(file, bytes))

  # Until the disk says no. Answers the numbers that were accepted.
  defp enqueue_until_refused(queue, n \\ 1) do
    case PaymentQueue.enqueue({n, :binary.copy("x", 10_000)}, queue: queue) do
      :ok -> [n | enqueue_until_refused(queue, n + 1)]
      {:error, {:storage, :enospc}} -> []
    end
  end

  for durability <- [:sync, :async] do
    test "#{durability}: a full disk refuses everybody, says so, loses nothing, and recovers by itself", %{dir: dir} do
      queue = queue!(durability: unquote(durability), dir: dir, max_attempts: 1)
      {:ok, 3} = PaymentQueue.enqueue_many([:a, :b, :c], queue: queue)
      :ok = PaymentQueue.flush(queue)
      assert %{storage: %{state: :ok, unwritten: 0}, durability: unquote(durability)} = PaymentQueue.info(queue)
      ballast = fill_up(dir)
      accepted = enqueue_until_refused(queue)

      refused = fn ->
        assert PaymentQueue.enqueue(:no, queue: queue) == {:error, {:storage, :enospc}}
        assert PaymentQueue.enqueue(:no, queue: queue, delay: 5) == {:error, {:storage, :enospc}}
        assert PaymentQueue.enqueue_many([:no, :no], queue: queue) == {:error, {:storage, :enospc}, 0}
        assert PaymentQueue.enqueue(:binary.copy("x", 100_000), queue: queue) == {:error, {:storage, :enospc}}
      end

      together(List.duplicate(refused, 8))
      assert PaymentQueue.flush(queue) == {:error, {:storage, :enospc}}
      assert %{storage: %{state: {:error, :enospc, detail}}} = info = PaymentQueue.info(queue)
      assert detail =~ "No space left"
      assert {503, _headers, body} = PaymentQueue.Health.response(queue: queue)
      assert IO.iodata_to_binary(body) =~ ~s("reason":"storage")
      metrics = IO.iodata_to_binary(PaymentQueue.Prometheus.text(queues: [queue]))
      assert metrics =~ ~s(payment_queue_storage_up{queue="#{queue}"} 0\n)
      # What was refused takes up no room, and workers go on.
      assert info.queue_size == 3 + length(accepted)
      assert {:ok, :a, lease} = PaymentQueue.take(queue: queue)
      assert PaymentQueue.ack(lease) == :ok

      File.rm!(ballast)
      eventually(fn -> PaymentQueue.flush(queue) == :ok end)
      assert %{storage: %{state: :ok, unwritten: 0}} = PaymentQueue.info(queue)
      assert {200, _headers, _body} = PaymentQueue.Health.response(queue: queue)
      assert PaymentQueue.enqueue(:again, queue: queue) == :ok
      left = for item <- take_all(queue), do: if(is_tuple(item), do: elem(item, 0), else: item)
      assert left == [:b, :c] ++ accepted ++ [:again]
      assert_conserved(queue)
    end
  end

  test "nobody is a duplicate of an item that the disk then refuses", %{dir: dir} do
    queue = queue!(durability: :sync, dir: dir, unique_for: 3_600_000, capacity: 100_000)
    ballast = fill_up(dir)
    File.rm!(ballast)
    # Many at a time ask for each key, while the disk gets full.
    enqueue = fn key -> PaymentQueue.enqueue({key, :binary.copy("x", 60_000)}, queue: queue, key: key) end

    answers =
      for key <- 1..400 do
        answers = fn -> enqueue.(key) end |> List.duplicate(6) |> together() |> Enum.frequencies_by(&kind/1)
        assert Map.get(answers, :ok, 0) <= 1
        if answers[:duplicate], do: assert(answers.ok == 1)
        answers
      end

    assert Enum.any?(answers, & &1[:duplicate]) and Enum.any?(answers, & &1[:storage])
    accepted = for {%{ok: 1}, key} <- Enum.zip(answers, 1..400), do: key
    assert PaymentQueue.info(queue).keys == length(accepted)
    assert Enum.map(take_all(queue), &elem(&1, 0)) == accepted
  end

  defp kind(:ok), do: :ok
  defp kind({:error, :duplicate}), do: :duplicate
  defp kind({:error, {:storage, _}}), do: :storage

  test "a caller whose timeout ends gets an answer and no message later; one that dies leaves nothing behind", %{
    dir: dir
  } do
    queue = queue!(durability: :sync, dir: dir)

    outcomes =
      for n <- 1..200 do
        result = PaymentQueue.enqueue(n, queue: queue, timeout: 1)
        assert result in [:ok, {:error, {:storage, :timeout}}]
        result
      end

    {_, monitor} =
      spawn_monitor(fn ->
        for n <- 1..50, do: spawn(fn -> PaymentQueue.enqueue(n, queue: queue) end) |> Process.exit(:kill)
      end)

    assert_receive {:DOWN, ^monitor, _, _, _}
    :ok = PaymentQueue.flush(queue)
    refute_received {:payment_queue, _, _, _}
    # Who got no answer may be in, too.
    info = assert_conserved(queue)
    assert info.queue_size in Enum.count(outcomes, &(&1 == :ok))..250
  end

  test "a read-only disk is named at the start", %{dir: dir} do
    {_, 0} = System.cmd("mount", ["-o", "remount,ro", dir])
    Process.flag(:trap_exit, true)
    assert {:error, {:storage, :erofs, detail}} = PaymentQueue.start_link(name: new_name(), durability: :sync, dir: dir)
    assert detail =~ "Read-only file system"
  end
end
