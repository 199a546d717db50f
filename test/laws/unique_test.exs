defmodule PaymentQueue.Laws.UniqueTest do
  # Unique: with `unique_for:`, no two items with equal keys are accepted while the first is on its way, nor for that time after;
  # of any number at once, one is; and keys take no memory for ever.
  use PaymentQueue.QueueCase, async: true

  @hour 3_600_000

  defp put(queue, key, opts \\ []), do: PaymentQueue.enqueue({:pay, key}, [queue: queue, key: key] ++ opts)

  defp take!(queue) do
    {:ok, _, lease} = PaymentQueue.take(queue: queue)
    lease
  end

  test "a key is taken while its item is queued, in flight, given back and scheduled, and for a time after" do
    queue = queue!(unique_for: @hour)
    duplicate = {:error, :duplicate}
    assert put(queue, 1) == :ok
    assert put(queue, 1) == duplicate
    lease = take!(queue)
    assert put(queue, 1) == duplicate
    :ok = PaymentQueue.nack(lease, delay: @hour)
    assert put(queue, 1) == duplicate
    assert put(queue, 2, delay: @hour) == :ok
    assert put(queue, 2) == duplicate
    assert put(queue, 3) == :ok
    :ok = PaymentQueue.ack(take!(queue))
    assert put(queue, 3) == duplicate
    assert put(queue, 4) == :ok
    assert {:ok, {:pay, 4}, _} = PaymentQueue.dequeue(queue: queue)
    assert put(queue, 4) == duplicate
    assert %{duplicates: 6, keys: 4, enqueued: 4, unique_for: @hour} = assert_conserved(queue)
  end

  test "the time is over when it is over, and then nothing is remembered" do
    queue = queue!(unique_for: 100)
    assert put(queue, :a) == :ok
    settled = System.monotonic_time(:microsecond)
    :ok = PaymentQueue.ack(take!(queue))
    eventually(fn -> put(queue, :a) == :ok end)
    # One percent for clocks that disagree.
    assert System.monotonic_time(:microsecond) - settled >= 99_000
    {:ok, _, _} = PaymentQueue.dequeue(queue: queue)
    before = PaymentQueue.info(queue)
    assert before.keys == 1
    # The queue's own alarm does that, about a second later.
    eventually(fn -> PaymentQueue.info(queue).keys == 0 end)
    assert PaymentQueue.info(queue).memory < before.memory
  end

  test "of many processes with one key, one is accepted" do
    queue = queue!(unique_for: @hour, capacity: 100_000)

    results =
      together(for _ <- 1..8, do: fn -> for key <- 1..2_000, do: PaymentQueue.enqueue(key, queue: queue, key: key) end)

    for of_one <- Enum.zip(results), do: assert(of_one |> Tuple.to_list() |> Enum.count(&(&1 == :ok)) == 1)
    assert Enum.sort(take_all(queue)) == Enum.to_list(1..2_000)
    assert %{duplicates: 14_000, keys: 2_000} = assert_conserved(queue)
  end

  test "a storm of few keys, takers and deaths: no two items of one key are ever on their way" do
    queue = queue!(unique_for: 0, capacity: 1_000, max_attempts: 65_535)
    keys = 1..10
    running = :atomics.new(10, [])
    settled = :atomics.new(10, [])
    accepted = :atomics.new(10, [])

    producer = fn ->
      for n <- 1..4_000 do
        key = rem(n, 10) + 1
        if PaymentQueue.enqueue(key, queue: queue, key: key) == :ok, do: :atomics.add(accepted, key, 1)
      end
    end

    # Counted only while the item is certainly in flight.
    taker = fn ->
      fn ->
        case PaymentQueue.take(queue: queue, timeout: 200) do
          {:ok, key, lease} ->
            assert :atomics.add_get(running, key, 1) == 1
            :atomics.sub(running, key, 1)
            :ok = PaymentQueue.ack(lease)
            :atomics.add(settled, key, 1)
            true

          :empty ->
            false
        end
      end
      |> Stream.repeatedly()
      |> Enum.find(&(not &1))
    end

    victims =
      for _ <- 1..3,
          do: spawn(fn -> Stream.repeatedly(fn -> PaymentQueue.take(queue: queue, timeout: 50) end) |> Stream.run() end)

    together([producer, producer, producer, taker, taker])
    for victim <- victims, do: kill(victim)
    for key <- take_all(queue), do: :atomics.add(settled, key, 1)
    for key <- keys, do: assert(:atomics.get(accepted, key) == :atomics.get(settled, key))
    assert %{keys: 0} = assert_conserved(queue)
  end

  test "keys are equal when the terms are, and only then" do
    queue = queue!(unique_for: @hour)
    large = Map.new(1..100, &{&1, "#{&1}"})

    keys = [
      1,
      1.0,
      "1",
      :"1",
      ~c"1",
      {1},
      [1],
      "",
      [],
      %{},
      self(),
      make_ref(),
      large,
      Map.delete(large, 1),
      1 |> Bitwise.bsl(100)
    ]

    for key <- keys, do: assert(put(queue, key) == :ok)
    again = large |> Map.delete(50) |> Map.put(50, "50")
    for key <- [again | keys], do: assert(put(queue, key) == {:error, :duplicate})
    assert PaymentQueue.info(queue).keys == length(keys)
  end

  test "nobody is a duplicate of an item that was refused" do
    queue = queue!(unique_for: @hour, capacity: 1, max_payload_bytes: 100)
    assert put(queue, 1) == :ok
    assert put(queue, 2) == {:error, :queue_full}
    assert PaymentQueue.enqueue(String.duplicate("x", 101), queue: queue, key: 2) == {:error, :payload_too_large}
    :ok = PaymentQueue.ack(take!(queue))
    assert put(queue, 2) == :ok
    {:error, :timeout} = PaymentQueue.drain(queue, timeout: 0)
    assert put(queue, 3) == {:error, :queue_closed}
    assert PaymentQueue.info(queue).keys == 2
  end

  test "a large payload has a key as well" do
    queue = queue!(unique_for: @hour)
    payload = %{body: :binary.copy("x", 200_000)}
    assert PaymentQueue.enqueue(payload, queue: queue, key: :large) == :ok
    assert PaymentQueue.enqueue(payload, queue: queue, key: :large) == {:error, :duplicate}
    assert take_all(queue) == [payload]
  end

  test "a dead letter lets its key go after the time, a purged item at once, and a requeued one has it again" do
    queue = queue!(unique_for: 0)
    assert put(queue, 1) == :ok
    :ok = PaymentQueue.reject(take!(queue), :declined)
    assert PaymentQueue.info(queue).keys == 0
    assert PaymentQueue.requeue_dead(queue) == {:ok, 1}
    assert put(queue, 1) == {:error, :duplicate}
    assert PaymentQueue.purge(queue) == {:ok, 1}
    assert put(queue, 1) == :ok

    patient = queue!(unique_for: @hour)
    assert put(patient, 1) == :ok
    :ok = PaymentQueue.reject(take!(patient), :declined)
    assert put(patient, 1) == {:error, :duplicate}
    assert put(patient, 2) == :ok
    assert PaymentQueue.purge(patient) == {:ok, 1}
    assert put(patient, 2) == :ok
  end

  test "the death of a holder keeps the key" do
    queue = queue!(unique_for: 0)
    assert put(queue, 1) == :ok
    holder = actor()
    Actor.run(holder, fn -> take!(queue) end)
    kill(holder)
    assert put(queue, 1) == {:error, :duplicate}
    eventually(fn -> PaymentQueue.stats(queue).queue_size == 1 end)
    :ok = PaymentQueue.ack(take!(queue))
    assert put(queue, 1) == :ok
  end

  test "enqueue_many takes a function of the payload, and stops at a duplicate" do
    queue = queue!(unique_for: @hour)
    payments = for id <- [1, 2, 3, 2, 4], do: %{id: id}
    assert PaymentQueue.enqueue_many(payments, queue: queue, key: & &1.id) == {:error, :duplicate, 3}
    assert PaymentQueue.enqueue_many(Enum.drop(payments, 4), queue: queue, key: & &1.id) == {:ok, 1}
    assert take_all(queue) == for(id <- 1..4, do: %{id: id})
    # Without a key there is no duplicate.
    assert PaymentQueue.enqueue_many([1, 1], queue: queue, key: fn _ -> nil end) == {:ok, 2}

    assert_raise ArgumentError, ~r/invalid value for :key: 7; allowed: a function of the payload/, fn ->
      PaymentQueue.enqueue_many([1], queue: queue, key: 7)
    end
  end

  test "what enqueue_many raises, it raises before the first item is in" do
    queue = queue!(unique_for: @hour)
    many = fn payloads, opts -> fn -> PaymentQueue.enqueue_many(payloads, [queue: queue] ++ opts) end end
    assert_raise KeyError, many.([%{id: 1}, %{}], key: & &1.id)
    assert_raise KeyError, many.([%{account: 1}, %{}], partition: & &1.account)
    assert_raise ArgumentError, ~r/invalid value for :key/, many.(["k", String.duplicate("k", 2_000)], key: & &1)

    assert_raise ArgumentError,
                 ~r/invalid value for :partition/,
                 many.(["p", Tuple.duplicate(:p, 2_000)], partition: & &1)

    :ok = PaymentQueue.configure(queue, unique_for: nil)
    assert_raise ArgumentError, ~r/:key needs a queue/, many.([nil, 1], key: & &1)
    assert %{enqueued: 0, keys: 0} = assert_conserved(queue)
    assert many.([nil, nil], key: & &1).() == {:ok, 2}
    missing = new_name()
    assert PaymentQueue.enqueue_many([1, 2], queue: missing, key: & &1) == {:error, :queue_unavailable, 0}
  end

  test "a key needs a queue that keeps keys; what is too long for a key is told" do
    plain = queue!()
    assert_raise ArgumentError, ~r/option :key needs a queue that was started with unique_for/, fn -> put(plain, 1) end
    assert put(plain, nil) == :ok
    queue = queue!(unique_for: 5)

    for option <- [:key, :partition] do
      message = ~r/^invalid value for #{inspect(option)}: "kkk.*; allowed: a term of up to 1024 bytes.*, and not 2006$/

      assert_raise ArgumentError, message, fn ->
        PaymentQueue.enqueue(:pay, [{option, String.duplicate("k", 2_000)}, queue: queue])
      end
    end

    assert put(:no_such_queue, 1) == {:error, :queue_unavailable}
  end

  test "the time changes live; nil forgets all keys" do
    queue = queue!(unique_for: @hour)
    assert put(queue, 1) == :ok
    {:ok, _, _} = PaymentQueue.dequeue(queue: queue)
    :ok = PaymentQueue.configure(queue, unique_for: 0)
    assert put(queue, 1) == {:error, :duplicate}
    assert put(queue, 2) == :ok
    {:ok, _, _} = PaymentQueue.dequeue(queue: queue)
    assert put(queue, 2) == :ok
    :ok = PaymentQueue.configure(queue, unique_for: nil)
    assert %{keys: 0, unique_for: nil} = PaymentQueue.info(queue)
    :ok = PaymentQueue.configure(queue, unique_for: @hour)
    assert put(queue, 1) == :ok
    assert put(queue, 2) == :ok
    assert take_all(queue) == [pay: 2, pay: 1, pay: 2]
  end

  test "a lent queue of the tests remembers no keys of the last borrower" do
    keys =
      for _ <- 1..2,
          do:
            Task.await(
              Task.async(fn ->
                queue = PaymentQueue.Testing.start_queue!(unique_for: @hour)
                assert PaymentQueue.enqueue(1, queue: queue, key: 1) == :ok
                PaymentQueue.dequeue(queue: queue)
                PaymentQueue.Testing.checkin_queue(queue)
                PaymentQueue.info(queue).keys
              end)
            )

    assert keys == [0, 0]
  end
end
