defmodule PaymentsApi.PayerTest do
  use ExUnit.Case, async: false

  alias PaymentsApi.{Books, Breaker, Gateway, Ledger, Meter, Payer, UUID}

  setup do
    start_supervised!(Books)
    Breaker.reset()
    %{payment: payment()}
  end

  test "prefers the default processor", %{payment: payment} do
    start()
    assert Payer.handle(payment) == :ok
    assert charges() == {1, 0}
    assert Meter.get(:settled) == 1
  end

  test "uses the fallback when the default one is unavailable", %{payment: payment} do
    start(default: [error_rate: 1.0])
    assert Payer.handle(payment) == :ok
    assert charges() == {0, 1}
  end

  test "leaves an unavailable processor alone after a while, and comes back to it" do
    default = start(default: [error_rate: 1.0])
    for _ <- 1..5, do: Payer.handle(payment())
    refute Breaker.allow?(:default)

    :sys.replace_state(default, &%{&1 | error_rate: 0.0})
    wait_until(fn -> Payer.handle(payment()) == :ok and elem(charges(), 0) > 0 end)
    assert Breaker.allow?(:default)
  end

  test "fails when both are unavailable, and can be tried again", %{payment: payment} do
    default = start(default: [error_rate: 1.0], fallback: [error_rate: 1.0])
    assert Payer.handle(payment) == {:error, :unavailable}
    :sys.replace_state(default, &%{&1 | error_rate: 0.0})
    assert Payer.handle(payment) == :ok
    assert {charges(), Meter.get(:retries), Meter.get(:settled)} == {{1, 0}, 1, 1}
  end

  test "gives up what was declined, without asking the other processor", %{payment: payment} do
    start(default: [decline_one_in: 1])
    assert Payer.handle(payment) == {:cancel, :declined}
    assert charges() == {0, 0}
  end

  test "stays with a processor that may have charged, even if it is unavailable then", %{payment: payment} do
    default = start(default: [lost_answer_rate: 1.0])
    assert Payer.handle(payment) == {:error, {:outcome_unknown, :default}}
    :sys.replace_state(default, &%{&1 | error_rate: 1.0})
    assert Payer.handle(payment) == {:error, {:outcome_unknown, :default}}
    :sys.replace_state(default, &%{&1 | error_rate: 0.0})
    assert Payer.handle(payment) == :ok
    assert {charges(), Meter.get(:deduplicated), Meter.get(:settled)} == {{1, 0}, 1, 1}
  end

  test "whenever a worker is killed, and however often, the payment is charged once" do
    start(default: [latency: 1..2, error_rate: 0.2], fallback: [latency: 1..2, error_rate: 0.2])
    payments = for _ <- 1..60, do: payment()

    payments
    |> Enum.map(&Task.async(fn -> survive(&1) end))
    |> Task.await_many(30_000)

    # What was sent is carried out, the sender being dead or not.
    {default, fallback} = charges()
    assert default + fallback == 60
    assert Ledger.paid_twice() == 0
    assert Meter.get(:settled) == 60
    assert {Meter.get(:overlapped), Meter.get(:redelivered)} == {0, 0}
    assert Meter.get(:again) > 0
  end

  test "a correlationId that the client sends twice is charged once, and it is not the queue's doing", %{
    payment: payment
  } do
    start()
    assert Payer.handle(payment) == :ok
    assert Payer.handle(%{payment | ticket: payment.ticket + 1_000_000}) == :ok
    assert {charges(), Meter.get(:repeated), Meter.get(:repeated_cents)} == {{1, 0}, 1, payment.cents}
    assert {Meter.get(:deduplicated), Meter.get(:overlapped), Meter.get(:redelivered)} == {0, 0, 0}
  end

  # Handles the payment in one process after another, killed after a random time, until one gets through.
  defp survive(payment) do
    {pid, monitor} = spawn_monitor(fn -> exit(Payer.handle(payment)) end)
    timer = :timer.kill_after(:rand.uniform(5), pid)

    receive do
      {:DOWN, ^monitor, :process, ^pid, :ok} -> :timer.cancel(elem(timer, 1))
      {:DOWN, ^monitor, :process, ^pid, _killed_or_error} -> survive(payment)
    end
  end

  defp start(opts \\ []) do
    for processor <- Ledger.processors() do
      start_supervised!({Gateway, [processor: processor] ++ Keyword.merge([latency: 1..1], opts[processor] || [])})
    end
    |> hd()
  end

  defp charges, do: {Ledger.total(:default).count, Ledger.total(:fallback).count}
  defp payment, do: %{ticket: System.unique_integer([:positive]), id: UUID.random(), cents: :rand.uniform(10_000)}
  defp wait_until(condition), do: condition.() || (Process.sleep(1) && wait_until(condition))
end
