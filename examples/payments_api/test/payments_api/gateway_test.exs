defmodule PaymentsApi.GatewayTest do
  use ExUnit.Case, async: false

  alias PaymentsApi.{Books, Gateway, Ledger, UUID}

  setup do
    start_supervised!(Books)
    %{id: UUID.random()}
  end

  test "a key is charged once, however often it is sent", %{id: id} do
    start()
    assert Gateway.charge(:default, id, 500) == {:ok, :charged}
    for _ <- 1..5, do: assert(Gateway.charge(:default, id, 500) == {:ok, :already_charged})
    assert Ledger.total(:default) == %{count: 1, cents: 500}
  end

  test "and however many send it at the same time", %{id: id} do
    start()

    answers =
      1..20 |> Enum.map(fn _ -> Task.async(fn -> Gateway.charge(:default, id, 500) end) end) |> Task.await_many()

    assert Enum.frequencies(answers) == %{{:ok, :charged} => 1, {:ok, :already_charged} => 19}
    assert Ledger.total(:default) == %{count: 1, cents: 500}
  end

  test "a charge is carried out although the caller died", %{id: id} do
    start(latency: 30..30)
    caller = spawn(fn -> Gateway.charge(:default, id, 500) end)
    wait_until(fn -> Map.has_key?(:sys.get_state(PaymentsApi.Gateway.Default).pending, id) end)
    Process.exit(caller, :kill)
    assert Gateway.charge(:default, id, 500) == {:ok, :already_charged}
    assert Ledger.total(:default).count == 1
  end

  test "a lost answer leaves the charge behind, and asking again tells", %{id: id} do
    start(lost_answer_rate: 1.0)
    assert Gateway.charge(:default, id, 500) == {:error, :no_answer}
    assert Gateway.charge(:default, id, 500) == {:ok, :already_charged}
    assert Ledger.total(:default).count == 1
  end

  test "being unavailable charges nothing", %{id: id} do
    start(error_rate: 1.0)
    assert Gateway.charge(:default, id, 500) == {:error, :unavailable}
    assert Ledger.total(:default).count == 0
  end

  test "an outage is one for all", %{id: id} do
    start(outages: {0, 60_000})
    assert Gateway.charge(:default, id, 500) == {:error, :unavailable}
  end

  test "a declined payment is declined again, and others are not" do
    start(decline_one_in: 3)
    ids = for _ <- 1..60, do: UUID.random()
    answers = Enum.map(ids, &Gateway.charge(:default, &1, 1))
    declined = Enum.count(answers, &(&1 == {:error, :declined}))
    assert declined in 1..59
    assert Ledger.total(:default).count == 60 - declined

    for {id, {:error, :declined}} <- Enum.zip(ids, answers) do
      assert Gateway.charge(:default, id, 1) == {:error, :declined}
    end
  end

  test "a gateway that is not there gives no answer", %{id: id} do
    assert Gateway.charge(:fallback, id, 500) == {:error, :no_answer}
  end

  defp start(opts \\ []), do: start_supervised!({Gateway, Keyword.merge([processor: :default, latency: 1..1], opts)})

  defp wait_until(condition), do: condition.() || (Process.sleep(1) && wait_until(condition))
end
