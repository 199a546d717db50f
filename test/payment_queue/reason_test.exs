defmodule PaymentQueue.ReasonTest do
  use ExUnit.Case, async: true

  alias PaymentQueue.Reason

  test "encode and decode" do
    for reason <- [:timeout, {:http, 502}, "text", %{a: 1}, {:error, %RuntimeError{message: "x"}, []}],
        do: assert(reason |> Reason.encode() |> Reason.decode() == reason)
  end

  test "a long reason stays bounded and is text" do
    for long <- [Enum.to_list(1..100_000), :binary.copy("é", 10_000), %{text: :binary.copy(<<255>>, 10_000)}] do
      bytes = Reason.encode(long)
      assert byte_size(bytes) <= 4_096
      assert String.valid?(Reason.decode(bytes))
    end
  end

  describe "describe" do
    @card "4111111111111111"
    @payload %{card: @card, amount: 5}

    test "shows what helps" do
      assert Reason.describe(:timeout) == ":timeout"
      assert Reason.describe({:http, 502, "bad gateway"}) == ~s({:http, 502, "bad gateway"})
      assert Reason.describe(a: 1) == "[{:a, 1}]"
      assert Reason.describe({:error, %RuntimeError{message: "no route"}, []}) == "RuntimeError: no route"
      assert Reason.describe({:error, :undef, []}) =~ "UndefinedFunctionError"
      assert Reason.describe({:exit, {:timeout, :call}, []}) == "exit: {:timeout, :call}"
    end

    test "never shows the payload, wherever it hides" do
      for reason <- [
            @payload,
            {:declined, @payload},
            {:nested, [[@payload]]},
            {:bad_return, @payload},
            {:error, %KeyError{key: :x, term: @payload}, []},
            {:error, %MatchError{term: @payload}, []},
            {:error, %CaseClauseError{term: @payload}, []},
            {:error, {:badmatch, @payload}, []},
            {:error, %FunctionClauseError{module: M, function: :f, arity: 1}, [{M, :f, [@payload], []}]},
            {:throw, @payload, []},
            {:exit, {:timeout, {GenServer, :call, [self(), {:pay, @payload}, 5_000]}}, []},
            %ArgumentError{message: inspect(@payload)},
            {:improper, [1 | @payload]},
            fn -> @payload end
          ] do
        text = Reason.describe(reason, [@payload])
        refute text =~ "4111", "#{inspect(reason)} shows as #{text}"
      end
    end

    test "a binary payload is left out of texts, too" do
      for reason <- [
            @card,
            {:declined, @card},
            "card #{@card} declined",
            {:error, %RuntimeError{message: "no #{@card}"}, []}
          ],
          do: refute(Reason.describe(reason, [@card]) =~ "4111")
    end

    test "sizes stay within a line" do
      assert Reason.describe(:binary.copy("x", 1_000)) == "binary(1000)"
      assert Reason.describe(Enum.to_list(1..1_000)) == "list(1000)"
      assert Reason.describe(%{a: 1}) == "map(1)"
      assert Reason.describe(List.to_tuple(Enum.to_list(1..9))) == "tuple(9)"
      assert Reason.describe(Date.utc_today()) == "%Date{...}"
      assert Reason.describe([1 | 2]) == "improper list"
      assert Reason.describe(<<1::3>>) == "term"
    end
  end

  describe "redact" do
    test "leaves what may be shown as it is" do
      for reason <- [
            :timeout,
            {:http, 502},
            {:declined, "05", [:no_funds]},
            [],
            %RuntimeError{message: "no route"},
            {:error, %UndefinedFunctionError{module: M, function: :f, arity: 1}}
          ],
          do: assert(Reason.redact(reason, [@payload]) == reason)
    end

    test "leaves no payload in it, wherever it hides" do
      for reason <- [
            @payload,
            {:declined, @payload},
            {:nested, [[@payload]]},
            %KeyError{key: :x, term: @payload},
            %MatchError{term: {:ok, @payload}},
            {:badmatch, @payload},
            {:timeout, {GenServer, :call, [self(), {:pay, @payload}, 5_000]}},
            {:improper, [1 | @payload]},
            List.duplicate(@payload, 6),
            fn -> @payload end
          ],
          do: refute(inspect(Reason.redact(reason, [@payload]), limit: :infinity) =~ "4111")

      for reason <- [@card, {:declined, @card}, "card #{@card} declined", %RuntimeError{message: "no #{@card}"}],
          do: refute(inspect(Reason.redact(reason, [@card])) =~ "4111")
    end

    test "an exception stays one, whose message can be read" do
      assert %KeyError{key: :x, term: "map(" <> _} = error = Reason.redact(%KeyError{key: :x, term: @payload}, [])
      assert Exception.message(error) =~ "key :x not found"
    end
  end
end
