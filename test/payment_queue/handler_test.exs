defmodule PaymentQueue.HandlerTest do
  use ExUnit.Case, async: true

  alias PaymentQueue.Handler

  def echo(payload, extra), do: {:error, {payload, extra}}

  defmodule Echo do
    @behaviour PaymentQueue.Handler
    @impl true
    def handle(payload), do: {:error, payload}
  end

  test "a module, an MFA and a function all become a function of the payload" do
    assert {:ok, fun} = Handler.new(Echo)
    assert fun.(1) == {:error, 1}
    assert {:ok, fun} = Handler.new({Echo, :handle, []})
    assert fun.(1) == {:error, 1}
    assert {:ok, fun} = Handler.new({__MODULE__, :echo, [:extra]})
    assert fun.(1) == {:error, {1, :extra}}
    assert {:ok, fun} = Handler.new(&{:ok, &1})
    assert fun.(1) == {:ok, 1}
  end

  test "every return value has an outcome" do
    for {returned, outcome} <- [
          {:ok, :ok},
          {{:ok, :receipt}, :ok},
          {{:error, :declined}, {:retry, :declined}},
          {{:cancel, :fraud}, {:reject, :fraud}},
          {{:snooze, 50}, {:snooze, 50}},
          {{:snooze, 0}, {:snooze, 0}},
          {{:snooze, -1}, {:retry, {:bad_return, {:snooze, -1}}}},
          {{:snooze, :later}, {:retry, {:bad_return, {:snooze, :later}}}},
          {{:snooze, 1.5}, {:retry, {:bad_return, {:snooze, 1.5}}}},
          {:error, {:retry, {:bad_return, :error}}},
          {nil, {:retry, {:bad_return, nil}}},
          {{:ok, 1, 2}, {:retry, {:bad_return, {:ok, 1, 2}}}}
        ] do
      assert Handler.run(fn _ -> returned end, :payload) == outcome
    end
  end

  test "a raise, a throw and an exit are errors with their stack, without arguments" do
    assert {:retry, {:error, %RuntimeError{message: "no"}, [{_, _, arity, _} | _]}} =
             Handler.run(fn _ -> raise "no" end, 1)

    assert is_integer(arity)
    assert {:retry, {:throw, :ball, [_ | _]}} = Handler.run(fn _ -> throw(:ball) end, 1)
    assert {:retry, {:exit, :gone, [_ | _]}} = Handler.run(fn _ -> exit(:gone) end, 1)

    assert {:retry, {:error, %FunctionClauseError{}, stack}} = Handler.run(&even/1, %{card: "4111"})
    refute inspect(stack) =~ "4111"
  end

  defp even(n) when rem(n, 2) == 0, do: :ok

  test "a batch: one value for all, or one for each" do
    assert Handler.run_batch(fn [1, 2] -> :ok end, [1, 2]) == [:ok, :ok]
    assert Handler.run_batch(fn _ -> {:error, :down} end, [1, 2]) == [{:retry, :down}, {:retry, :down}]
    assert Handler.run_batch(fn _ -> [:ok, {:cancel, :no}] end, [1, 2]) == [:ok, {:reject, :no}]

    assert [{:retry, {:bad_return, [:ok]}}, {:retry, {:bad_return, [:ok]}}] =
             Handler.run_batch(fn _ -> [:ok] end, [1, 2])

    assert [{:retry, {:bad_return, [:ok | :ok]}}, _] = Handler.run_batch(fn _ -> [:ok | :ok] end, [1, 2])

    assert [{:retry, {:throw, :ball, _}}, {:retry, {:throw, :ball, _}}] =
             Handler.run_batch(fn _ -> throw(:ball) end, [1, 2])
  end
end
