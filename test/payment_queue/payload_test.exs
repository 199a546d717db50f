defmodule PaymentQueue.PayloadTest do
  # What is taken out is what was put in, in whichever format a term travels.
  use PaymentQueue.QueueCase, async: true

  defp nested(0, leaf), do: leaf

  defp nested(n, leaf) do
    inner = nested(n - 1, leaf)

    case rem(n, 3) do
      0 -> [inner]
      1 -> {inner}
      2 -> %{k: inner}
    end
  end

  defp same(queue, payload) do
    assert PaymentQueue.enqueue(payload, queue: queue) == :ok
    assert PaymentQueue.peek(1, queue) === [payload]
    assert {:ok, taken, lease} = PaymentQueue.take(queue: queue)
    assert taken === payload
    assert PaymentQueue.nack(lease) == :ok
    assert PaymentQueue.dequeue(queue: queue) |> elem(1) === payload
  end

  test "numbers at the edges of their formats" do
    queue = queue!()

    edges =
      for bits <- [6, 7, 13, 14, 31, 59, 60, 62, 63, 64, 70, 200], d <- -1..1, s <- [1, -1], do: s * (2 ** bits + d)

    for n <- [0, 1, -1 | edges], do: same(queue, n)
    for f <- [0.0, 1.0, -1.5, 1.0e308, 5.0e-324], do: same(queue, {f, trunc(min(f, 10.0))})
    assert PaymentQueue.enqueue(-0.0, queue: queue) == :ok
    assert {:ok, zero, _} = PaymentQueue.dequeue(queue: queue)
    assert <<zero::float>> == <<-0.0::float>>
  end

  test "binaries, bitstrings and atoms" do
    queue = queue!()

    for size <- [0, 1, 63, 64, 65, 127, 128, 2048, 2049, 65_536, 65_537, 300_000],
        do: same(queue, {:b, :binary.copy("x", size)})

    for size <- [0, 8, 2048, 2049, 65_536, 65_537, 300_000], do: same(queue, :binary.copy("x", size))

    for term <- [<<1::3>>, {<<5::11>>}, :"", :ä, :日本, nil, true, String.to_atom(String.duplicate("é", 200))],
        do: same(queue, term)
  end

  test "collections of every size, and what they hold" do
    queue = queue!()

    for n <- [0, 1, 7, 8, 9, 31, 32, 33, 100, 1_000, 5_000, 20_000] do
      list = Enum.to_list(1..n//1)

      for term <- [list, List.to_tuple(list), Map.new(list, &{&1, {&1}}), Map.new(list, &{"k#{&1}", nil})],
          do: same(queue, term)
    end

    for term <- [[1 | 2], [[], [[]]], %{}, {}, ~D[2026-11-25], 1..3, %{%{a: 1} => [b: {:c}]}], do: same(queue, term)
    for depth <- 29..35, leaf <- [1, :a, "b", [], %{}], do: same(queue, nested(depth, leaf))
  end

  test "what is bound to this VM" do
    queue = queue!()

    for term <- [self(), make_ref(), &String.upcase/1, fn -> queue end, %{from: self(), at: [make_ref()]}],
        do: same(queue, term)
  end

  test "all of them in one batch, in their order" do
    queue = queue!()
    batch = [1, 2 ** 70, "x", %{a: self()}, :binary.copy("y", 100_000), Enum.to_list(1..20_000), nested(40, :deep), {}]
    assert PaymentQueue.enqueue_many(batch, queue: queue) == {:ok, length(batch)}
    assert queue |> then(&PaymentQueue.take_many(100, queue: &1)) |> Enum.map(&elem(&1, 0)) === batch
  end
end
