defmodule PaymentQueue.Fuzz.PayloadTest do
  # Payloads: any term comes back as it was, and any bytes that stand where a payload should be are an error or some term, never
  # harm.
  use PaymentQueue.QueueCase, async: true

  alias PaymentQueue.{ChildVm, FaultyBuild, Fuzz}

  @moduletag timeout: 600_000

  # By `===` 0.0 and -0.0 are equal; their bytes are not.
  defp same?(a, b), do: a === b and :erlang.term_to_binary(a) == :erlang.term_to_binary(b)

  test "any term comes back as it was, in memory" do
    queue = queue!(durability: :none, dir: nil, max_bytes: 4_294_967_296)
    for _ <- 1..40, do: round_trip(queue, for(_ <- 1..25, do: Fuzz.term()))
  end

  test "any term comes back as it was, through the format of the disk" do
    queue = queue!(durability: :async, dir: scratch_dir())
    for _ <- 1..20, do: round_trip(queue, for(_ <- 1..25, do: Fuzz.term()))
  end

  defp round_trip(queue, terms) do
    assert PaymentQueue.enqueue_many(terms, queue: queue) == {:ok, length(terms)}
    assert same?(PaymentQueue.peek(100, queue), terms)
    {one, rest} = {hd(terms), tl(terms)}
    assert {:ok, taken, lease} = PaymentQueue.take(queue: queue)
    assert same?(taken, one)
    assert PaymentQueue.ack(lease) == :ok
    taken = PaymentQueue.take_many(100, queue: queue)
    assert same?(Enum.map(taken, &elem(&1, 0)), rest)
    assert PaymentQueue.ack_many(Enum.map(taken, &elem(&1, 1))) == :ok
    assert PaymentQueue.enqueue(one, queue: queue, delay: 0) == :ok
    assert {:ok, again, _} = PaymentQueue.dequeue(queue: queue)
    assert same?(again, one)
  end

  # What runs a script below has a VM of its own, whose atoms and memory are nobody else's.
  @prelude """
  alias PaymentQueue.{Fuzz, Native}
  :rand.seed(:exsss, bindings[:seed])
  """

  test "damaged bytes of the disk's format: a term, or a dead letter; few atoms, little memory" do
    script = """
    Logger.configure(level: :none)
    {:ok, _} = PaymentQueue.start_link(name: :q, durability: :async, dir: bindings[:dir], max_dead: 10)
    plainly = Native.plainly()
    atom = fn -> <<119, 9, "new", Integer.to_string(100_000 + Fuzz.below(500_000))::binary>> end

    damaged = fn ->
      case Fuzz.below(5) do
        0 -> Fuzz.bytes(60)
        1 -> <<131, Fuzz.bytes(60)::binary>>
        # Atoms that nobody knows, and a count that is a lie.
        2 -> <<131, 108, 40::32, Enum.map_join(1..Fuzz.below(60)//1, fn _ -> atom.() end)::binary, 106>>
        3 -> <<131, Enum.random([104, 105, 108, 109, 116, 110, 111, 107]), Fuzz.bytes(8)::binary>>
        # Compressed: a hundred bytes that would be a hundred thousand.
        4 -> :erlang.term_to_binary({:zeros, List.duplicate(Fuzz.below(10), 100_000)}, compressed: 9)
      end
    end

    round = fn n ->
      bytes = if rem(n, 2) == 0, do: damaged.(), else: Fuzz.term() |> :erlang.term_to_binary() |> Fuzz.damage()
      :ok = Native.enqueue_large(:q, bytes, :term, plainly)
      _ = PaymentQueue.peek(1, :q)

      case PaymentQueue.take(queue: :q) do
        {:ok, {:zeros, _}, _} -> raise "a compressed term was decoded"
        {:ok, _term, lease} -> :ok = PaymentQueue.ack(lease)
        :empty -> :dead
      end
    end

    look = fn ->
      for %{payload: payload} <- PaymentQueue.dead_letters(:q), do: {:undecodable, _} = payload
      PaymentQueue.info(:q)
    end

    # First without any new atoms from outside, so that all code is loaded whose atoms would be counted below.
    Application.put_env(:payment_queue, :max_new_atoms, 0)
    for n <- 1..1_000, do: round.(n)
    _ = look.()
    atoms = :erlang.system_info(:atom_count)
    Application.put_env(:payment_queue, :max_new_atoms, 40)
    for n <- 1..3_000, do: round.(n)
    info = look.()
    true = info.settled > 100 and info.dead_dropped > 100
    4_000 = info.settled + info.dead + info.dead_dropped + info.in_flight
    new = :erlang.system_info(:atom_count) - atoms
    if new not in 1..40, do: raise("\#{new} new atoms")
    IO.puts("as expected")
    """

    # The seed is in the binding, which the failure shows.
    assert ChildVm.run(@prelude <> script, dir: scratch_dir(), seed: Fuzz.below(1_000_000)) =~ "as expected"
  end

  test "damaged bytes from NATS: a term, or undecodable; no atom, little memory" do
    inflated = :erlang.term_to_binary(:binary.copy("0", 10_000_000), [:compressed])
    assert PaymentQueue.Nats.Payload.show({:term, inflated}) == {:undecodable, inflated}

    script = """
    outcome = fn n ->
      written = Fuzz.term() |> :erlang.term_to_binary()
      bytes = if rem(n, 3) == 0, do: Fuzz.bytes(60), else: Fuzz.damage(written)

      case PaymentQueue.Nats.Payload.show({:term, bytes}) do
        {:undecodable, ^bytes} -> :undecodable
        _ -> :term
      end
    end

    # First some, so that all code is loaded whose atoms would be counted below.
    for n <- 1..500, do: outcome.(n)
    atoms = :erlang.system_info(:atom_count)
    outcomes = for n <- 1..5_000, do: outcome.(n)
    %{term: _, undecodable: _} = Enum.frequencies(outcomes)
    new = :erlang.system_info(:atom_count) - atoms
    if new > 0, do: raise("\#{new} new atoms")
    IO.puts("as expected")
    """

    assert ChildVm.run(@prelude <> script, dir: scratch_dir(), seed: Fuzz.below(1_000_000)) =~ "as expected"
  end

  test "damaged bytes of the compact format: a term, or undecodable; the queue goes on" do
    script = """
    {:ok, _} = PaymentQueue.start_link(name: :q, max_payload_bytes: 100_000)
    varint = fn varint, n -> if n < 128, do: <<n>>, else: <<1::1, n::7, varint.(varint, Bitwise.bsr(n, 7))::binary>> end
    varint = &varint.(varint, &1)

    # Tags 0 to 6 as in packed.rs, lengths that lie, nesting as deep as one likes.
    made = fn made, depth ->
      case Fuzz.below(8) do
        0 -> <<0, varint.(Fuzz.below(1_000_000))::binary>>
        1 -> <<1, Fuzz.bytes(9)::binary>>
        2 -> <<2, varint.(Fuzz.below(40))::binary>>
        3 -> <<3, varint.(Fuzz.below(8))::binary, Fuzz.bytes(8)::binary>>
        4 -> Fuzz.bytes(3)
        n when depth > 0 -> <<n - 1, varint.(Fuzz.below(5))::binary, Enum.map_join(0..Fuzz.below(4)//1, fn _ -> made.(made, depth - 1) end)::binary>>
        n -> <<n - 1, varint.(Enum.random([0, 1, 70_000, 2 ** 32, 2 ** 63]))::binary>>
      end
    end

    deep = fn n -> :binary.copy(<<5, 1>>, n) <> <<0, 2>> end
    {:ok, _} = PaymentQueue.start_link(name: :other)
    # Gives some atoms their numbers.
    :ok = PaymentQueue.enqueue(%{a: :b, c: [:d]}, queue: :other)

    outcomes =
      for n <- 1..20_000, reduce: %{} do
        counts ->
          bytes =
            case rem(n, 3) do
              0 -> Fuzz.bytes(40)
              1 -> made.(made, 6)
              2 -> Fuzz.damage(if(rem(n, 100) == 2, do: deep.(Fuzz.below(40)), else: made.(made, 3)))
            end

          :ok = PaymentQueue.Native.enqueue_large(:q, bytes, :decoded, PaymentQueue.Native.plainly())
          [{:decoded, shown}] = PaymentQueue.Native.peek(:q, 1)

          outcome =
            case PaymentQueue.Native.take(:q) do
              {:ok, term, lease} ->
                ^shown = term
                # It is a term like any other: it can be walked, copied and encoded again.
                _ = :erlang.phash2(term)
                send(self(), term)
                receive do: (^term -> :ok)
                ^term = :erlang.binary_to_term(:erlang.term_to_binary(term))
                :ok = PaymentQueue.ack(lease)
                :term

              {:large, lease} ->
                nil = shown
                :large = PaymentQueue.Native.fetch(lease)
                :ok = PaymentQueue.reject(lease, :undecodable)
                :undecodable
            end

          Map.update(counts, outcome, 1, &(&1 + 1))
      end

    true = outcomes.term > 1_000 and outcomes.undecodable > 1_000
    %{a: :b, c: [:d]} = elem(PaymentQueue.dequeue(queue: :other), 1)
    IO.puts("as expected: \#{inspect(outcomes)}")
    """

    assert ChildVm.run(@prelude <> script, [seed: Fuzz.below(1_000_000)], FaultyBuild.ebin()) =~ "as expected"
  end
end
