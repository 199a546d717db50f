defmodule PaymentQueue.Soak.ProgramTest do
  use ExUnit.Case, async: true

  alias PaymentQueue.Soak.{Fate, Kind, Payload, Program}

  defp steps(seed, kind, n),
    do: seed |> Program.start(kind) |> Stream.unfold(&Program.next/1) |> Enum.take(n)

  test "a seed repeats its program, another one has another" do
    for kind <- Kind.all() do
      assert steps(1, kind, 500) == steps(1, kind, 500)
      assert steps(1, kind, 500) != steps(2, kind, 500)
    end
  end

  test "a program has every kind of step" do
    names =
      for step <- steps(1, hd(Kind.all()), 20_000), uniq: true do
        case step do
          {:kill, what, _n} -> {:kill, what}
          {:drain, _ms, then} -> {:drain, then}
          {:kill, what} -> {:kill, what}
          {name, _} -> name
          name -> name
        end
      end

    wanted =
      [:wait, :look, :scale, :configure, :pause, :restart, :purge, :requeue_dead, :dequeue] ++
        for(what <- [:consumers, :callers, :tree, :pool], do: {:kill, what}) ++
        for(then <- [:resume, :restart], do: {:drain, then})

    assert Enum.sort(names) == Enum.sort(wanted)
  end

  test "a delivery's fate is always the same, and the last attempts go well" do
    for id <- 1..500, n <- 1..4, do: assert(Fate.handled(7, id, n) == Fate.handled(7, id, n))
    for id <- 1..5_000, do: assert({Fate.handled(7, id, 5), Fate.taken(7, id, 5)} == {:ok, :ack})

    fates =
      for id <- 1..20_000, uniq: true, do: 7 |> Fate.handled(id, 1) |> then(&if(is_tuple(&1), do: :snooze, else: &1))

    assert Enum.sort(fates) == [:bad_return, :cancel, :die, :error, :exit, :hang, :ok, :raise, :snooze, :throw]
  end

  test "a payload tells its id, and whether a byte of it has changed" do
    :rand.seed(:exsss, 1)
    for id <- 1..300, do: assert(id |> Payload.random() |> Payload.read() == {:ok, id})
    <<head::binary-size(20), byte, rest::binary>> = Payload.binary(7, 500)
    assert Payload.read(<<head::binary, Bitwise.bxor(byte, 1), rest::binary>>) == :damaged
    assert Payload.read(Payload.binary(7, 500) <> "x") == :damaged
    assert Payload.read({1, 2}) == :damaged
    assert Payload.read(:something_else) == :damaged
  end
end
