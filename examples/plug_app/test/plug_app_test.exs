defmodule PlugAppTest do
  # Over HTTP, as customers and the operator see it. One instance at a time: the queues and the bank are found by name.
  use ExUnit.Case

  import PlugApp.Client

  alias PlugApp.{Bank, OldQueue}

  @token "only-for-this-test"

  defp app!(stage, opts \\ [operator_token: @token]) do
    start_supervised!({PlugApp, [stage: stage] ++ opts})
    :ok
  end

  defp pay(id, customer \\ "c1"),
    do: request("POST", "/payments", Jason.encode!(%{id: id, customer: customer, cents: 1990}))

  defp operate(method, path, body \\ %{}, token \\ @token),
    do: request(method, "/operator" <> path, Jason.encode!(body), [{"authorization", "Bearer #{token}"}])

  defp mode!(mode) do
    body = if is_integer(mode), do: %{mode: "percent", percent: mode}, else: %{mode: mode}
    assert %{status: 200} = operate("PUT", "/mode", body)
  end

  defp health, do: Jason.decode!(request("GET", "/health").body)

  defp eventually(fun, tries \\ 1_000) do
    cond do
      fun.() -> :ok
      tries == 0 -> flunk("did not happen within ten seconds")
      true -> receive(do: (:never -> :ok), after: (10 -> eventually(fun, tries - 1)))
    end
  end

  for stage <- ["before", "migrating", "after"] do
    test "#{stage}: payments are taken and charged once" do
      app!(unquote(stage))
      ids = for n <- 1..20, do: "#{unquote(stage)}-#{n}"
      for id <- ids, do: assert(%{status: 204, body: ""} = pay(id))
      eventually(fn -> map_size(Bank.charges()) == 20 end)
      assert Bank.charges() == Map.new(ids, &{&1, 1})
      assert %{"status" => "ok", "queue" => %{"queue_size" => 0, "in_flight" => _}} = health()
    end

    test "#{stage}: what is no payment is refused" do
      app!(unquote(stage))

      for body <- [%{}, %{id: "1", customer: "c", cents: 0}, %{id: 1, customer: "c", cents: 1}, [1]] do
        assert %{status: 400} = request("POST", "/payments", Jason.encode!(body))
      end

      assert %{status: 404} = request("GET", "/nowhere")
      assert Bank.charges() == %{}
    end
  end

  test "a full queue is a 503 that says so, and the payment is not charged" do
    app!("after")
    # The queue outlives the app, and so would the pause.
    on_exit(fn -> PaymentQueue.resume() end)
    :ok = PaymentQueue.pause()
    :ok = PaymentQueue.configure(:default, capacity: 1)
    assert %{status: 204} = pay("first")
    assert %{status: 503, body: ~s({"error":"queue_full"}), headers: %{"retry-after" => "1"}} = pay("second")
    assert %{"queue" => %{"queue_size" => 1}} = health()
    :ok = PaymentQueue.resume()
    eventually(fn -> Bank.charges() == %{"first" => 1} end)
  end

  describe "the operator's endpoints" do
    test "need the token" do
      app!("migrating")
      assert %{status: 401} = operate("GET", "/report", %{}, "guessed")
      assert %{status: 401} = request("GET", "/operator/report")
      assert %{status: 401} = operate("PUT", "/mode", %{mode: "native"}, "guessed")
      assert %{status: 200, body: "migration :default, mode " <> _} = operate("GET", "/report")
      assert %{status: 200} = operate("GET", "/report?since=start")
      assert %{status: 404} = operate("GET", "/elsewhere")
    end

    test "do not exist without one" do
      app!("migrating", [])
      assert %{status: 404} = operate("GET", "/report")
      assert %{status: 404} = operate("GET", "/report", %{}, "")
    end

    test "take no other modes" do
      app!("migrating")
      mode!("legacy")

      for body <- [%{mode: "new"}, %{mode: "percent"}, %{mode: "percent", percent: 101}, %{percent: 5}] do
        assert %{status: 400} = operate("PUT", "/mode", body)
      end

      assert PaymentQueue.Migration.mode() == :legacy
      assert %{status: 409, body: "moved 0, then :legacy_in_use\n"} = operate("POST", "/drain")
    end
  end

  test "through all phases and back under load: nothing is lost, nothing is charged twice" do
    app!("migrating")
    mode!("legacy")
    :ok = PaymentQueue.configure(:default, capacity: 200)
    test = self()
    customers = for n <- 1..4, do: Task.async(fn -> shop(test, n, 0, []) end)

    for mode <- ["legacy", "shadow", 5, 50, "native", "legacy", 100, "shadow", "native"] do
      mode!(mode)
      # Every mode sees traffic of every customer.
      for %{pid: pid} <- customers, _ <- 1..25, do: receive(do: ({:paid, ^pid} -> :ok))
      assert %{status: 200} = operate("GET", "/report")
    end

    Enum.each(customers, &send(&1.pid, :enough))

    {accepted, refused} =
      customers |> Task.await_many(60_000) |> Enum.concat() |> Enum.split_with(&(elem(&1, 1) == 204))

    assert %{status: 200} = operate("POST", "/drain")
    eventually(fn -> OldQueue.stats().queue_size == 0 and map_size(Bank.charges()) >= length(accepted) end)
    assert Bank.charges() == Map.new(accepted, fn {id, 204} -> {id, 1} end)
    for {_, status} <- refused, do: assert(status == 503)

    report = PaymentQueue.Migration.report()
    assert report.legacy.accepted + report.native.accepted >= length(accepted)
    assert report.legacy.accepted > 0 and report.native.accepted > 0 and report.shadow.accepted > 0
    assert report.agreement.both_accepted == report.shadow.accepted
    assert report.in_hand == 0
  end

  defp shop(test, customer, n, answers) do
    receive do
      :enough -> answers
    after
      0 ->
        id = "#{customer}-#{n}"
        answer = {id, pay(id, "customer-#{customer}-#{rem(n, 50)}").status}
        send(test, {:paid, self()})
        shop(test, customer, n + 1, [answer | answers])
    end
  end

  test "what waits in the old queue at the cutover is drained into the new one" do
    app!("migrating")
    mode!("legacy")
    # The old workers stand still, as behind a slow gateway.
    workers = for {_, pid, _, _} <- Supervisor.which_children(PlugApp.OldWorkers), do: pid
    Enum.each(workers, &:sys.suspend/1)
    for n <- 1..100, do: assert(%{status: 204} = pay("waiting-#{n}"))
    assert %{"queue" => %{"queue_size" => 100}} = health()
    mode!("native")
    assert %{status: 200, body: "moved 100\n"} = operate("POST", "/drain")
    eventually(fn -> map_size(Bank.charges()) == 100 end)
    Enum.each(workers, &:sys.resume/1)
    assert Bank.charges() == Map.new(1..100, &{"waiting-#{&1}", 1})
  end
end
