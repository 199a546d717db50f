defmodule PaymentQueue.Soak.VitalsTest do
  use ExUnit.Case, async: false

  alias PaymentQueue.Soak.Vitals

  defp reading(change \\ []), do: Map.merge(Vitals.read([%{memory: 1_000, disk: 0}], nil), Map.new(change))

  test "what stays or falls has not grown, and nothing has before the warm-up is over" do
    steady = List.duplicate(reading(), Vitals.warm_up())
    assert Vitals.grown(steady ++ [hd(steady)]) == []
    assert Vitals.grown(steady ++ [%{hd(steady) | processes: 1, rss: 1}]) == []
    assert Vitals.grown([reading(), %{reading() | processes: 1_000_000}]) == []
  end

  test "each reading that grows beyond its slack is reported" do
    steady = List.duplicate(reading(), Vitals.warm_up())

    for {key, slack} <- Vitals.slack(), value = hd(steady)[key] do
      assert Vitals.grown(steady ++ [%{hd(steady) | key => value + slack}]) == []
      assert [{:leak, text}] = Vitals.grown(steady ++ [%{hd(steady) | key => value + slack + 1}])
      assert text =~ "#{key}: #{value + slack + 1} after #{Vitals.warm_up() + 1} rounds"
    end
  end

  test "a process that native code monitors is seen" do
    {:ok, _} = PaymentQueue.start_link(name: :soak_vitals)
    :empty = PaymentQueue.take(queue: :soak_vitals)
    assert reading().monitors >= 1
  end
end
