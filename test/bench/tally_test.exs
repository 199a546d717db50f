defmodule PaymentQueue.Bench.TallyTest do
  use ExUnit.Case, async: true

  alias PaymentQueue.Bench.{Loops, Payload, Tally}

  @producers 3

  test "all items of all producers, once and in order, are what is expected" do
    ids = for number <- 0..2, do: Loops.ids(number, @producers, 50)
    all = for %{first: first, step: step, stop: stop} <- ids, id <- first..(stop - step)//step, do: id
    assert Enum.sort(all) == Enum.to_list(0..149)
    assert tally(all) == Tally.expected(150)

    for count <- 1..20, do: assert(tally(Enum.to_list(0..(count - 1))) == Tally.expected(count))
  end

  test "a lost, a doubled, an exchanged and an overtaken item each make a difference" do
    all = Enum.to_list(0..149)
    expected = Tally.expected(150)

    refute tally(List.delete(all, 77)) == expected
    refute tally([77 | all]) == expected
    refute tally([76 | List.delete(all, 77)]) == expected
    # 74 and 77 are the same producer's.
    refute tally(all |> List.delete(77) |> List.insert_at(74, 77)) == expected
  end

  test "producers may overtake each other" do
    by_producer = Enum.sort_by(0..149, &rem(&1, @producers))
    assert tally(by_producer) == Tally.expected(150)
  end

  test "workers that see a part each add up, whatever the order" do
    {some, others} = 0..149 |> Enum.shuffle() |> Enum.split(60)
    tallies = for ids <- [some, others], do: Enum.reduce(ids, Tally.unordered(), &Tally.add(&2, &1))
    assert Tally.total(tallies) == Tally.expected(150)
  end

  test "payloads keep the id that they are given" do
    for kind <- [:map, :json, :binary, :binary_4k, :binary_64k], id <- [0, 1, 0x7FFFFFFF] do
      assert kind |> Payload.build(id) |> Payload.id_of() == id
      assert kind |> Payload.build(1) |> Payload.with_id(id) |> Payload.id_of() == id
      if is_binary(Payload.build(kind, id)), do: assert(byte_size(Payload.build(kind, id)) == Payload.bytes(kind))
    end
  end

  defp tally(ids), do: Tally.total([Enum.reduce(ids, Tally.ordered(@producers), &Tally.add(&2, &1))])
end
