defmodule PaymentsApi.RouterTest do
  # The books are one per VM.
  use ExUnit.Case, async: false

  alias PaymentsApi.{Books, Ledger, Meter, Router, UUID}

  defmodule Queue do
    @moduledoc "Answers what the test process was told to answer, and sends it the payment."
    def enqueue(payment) do
      send(self(), {:enqueued, payment})
      Process.get(:answer, :ok)
    end

    def stats, do: %{queue_size: 3, in_flight: 2}
  end

  setup do
    start_supervised!(Books)
    :ok
  end

  describe "POST /payments" do
    test "accepts a payment, in cents" do
      id = UUID.random()
      assert {204, [], ""} = post(~s({"correlationId":"#{UUID.format(id)}","amount":19.90}))
      assert_received {:enqueued, %{id: ^id, cents: 1990, ticket: ticket}} when is_integer(ticket)
      assert {Meter.get(:accepted), Meter.get(:accepted_cents)} == {1, 1990}
    end

    test "gives every request its own ticket, a repeated one too" do
      body = payment()

      tickets =
        for _ <- 1..100 do
          assert {204, _, _} = post(body)
          assert_received {:enqueued, %{ticket: ticket}}
          ticket
        end

      assert length(Enum.uniq(tickets)) == 100
    end

    test "refuses what is no JSON object" do
      for body <- ["", "{", "[]", "7", ~s({"amount":}), "\xff", ~s({"a":1} x), String.duplicate("[", 9_000)] do
        assert {400, %{"error" => "invalid_json", "reason" => reason}} = json(post(body))
        assert reason != ""
      end

      assert Meter.get(:rejected) == 8
    end

    test "refuses wrong fields and says which" do
      id = UUID.format(UUID.random())

      for {body, reason} <- [
            {~s({"amount":1}), "correlationId is missing"},
            {~s({"correlationId":"7","amount":1}), "correlationId must be a UUID"},
            {~s({"correlationId":7,"amount":1}), "correlationId must be a UUID"},
            {~s({"correlationId":"#{id}"}), "amount is missing"},
            {~s({"correlationId":"#{id}","amount":"1"}), "amount must be a number"},
            {~s({"correlationId":"#{id}","amount":0}), "amount must be greater than 0"},
            {~s({"correlationId":"#{id}","amount":1.005}), "amount must have at most 2 decimals"}
          ] do
        assert json(post(body)) == {400, %{"error" => "invalid_field", "reason" => reason}}
      end

      refute_received {:enqueued, _}
    end

    test "names the queue's refusal, and counts it" do
      for refusal <- [:queue_full, :queue_closed, :queue_unavailable] do
        Process.put(:answer, {:error, refusal})
        assert {503, headers, _} = response = post(payment())
        assert {"Retry-After", "1"} in headers
        assert json(response) == {503, %{"error" => to_string(refusal)}}
      end

      assert {Meter.get(:refused), Meter.get(:accepted)} == {3, 0}
    end

    test "refuses a body that was too large to be read" do
      assert {413, %{"error" => "payload_too_large"}} = json(call("POST", "/payments", "", :too_large))
    end
  end

  describe "GET /payments-summary" do
    test "is zero at first" do
      zero = ~s({"totalRequests":0,"totalAmount":0.00})
      assert summary("") == ~s({"default":#{zero},"fallback":#{zero}})
    end

    test "adds up per processor, exact in cents" do
      for _ <- 1..1_000, do: Ledger.charge(:default, UUID.random(), 10)
      Ledger.charge(:fallback, UUID.random(), 999_999_999_999)
      Ledger.charge(:fallback, UUID.random(), 2)

      assert summary("") ==
               ~s({"default":{"totalRequests":1000,"totalAmount":100.00},) <>
                 ~s("fallback":{"totalRequests":2,"totalAmount":10000000000.01}})
    end

    test "counts the charges from `from` to `to`, both included" do
      charges = for _ <- 1..12_000, do: {:rand.uniform(1_000), :rand.uniform(9_999)}
      for {ms, cents} <- charges, do: Ledger.charge(:default, UUID.random(), cents, ms * 1_000)

      for {from, to} <- [{0, 1_000}, {250, 750}, {500, 500}, {nil, 300}, {300, nil}, {2_000, nil}] do
        inside = Enum.filter(charges, fn {ms, _} -> (from == nil or ms >= from) and (to == nil or ms <= to) end)
        query = URI.encode_query(for({k, ms} <- [from: from, to: to], ms, do: {k, time(ms)}))
        amount = inside |> Enum.map(&elem(&1, 1)) |> Enum.sum() |> PaymentsApi.Cents.format()
        assert summary(query) =~ ~s({"default":{"totalRequests":#{length(inside)},"totalAmount":#{amount}},)
      end
    end

    test "refuses what is no time in UTC" do
      for query <- [
            "from=yesterday",
            "to=2025-07-10",
            "from=2025-07-10T12:34:56",
            "from=2025-07-10T12:34:56%2B02:00",
            "from=%zz"
          ] do
        assert {400, %{"error" => "invalid_date"}} = json(call("GET", "/payments-summary", query))
      end

      assert {400, %{"reason" => "from must not be after to"}} =
               json(call("GET", "/payments-summary", "from=#{time(2)}&to=#{time(1)}"))
    end
  end

  describe "GET /health" do
    test "shows depth and payments in flight" do
      assert {200, _, body} = call("GET", "/health")
      assert IO.iodata_to_binary(body) == ~s({"status":"ok","queue":{"queue_size":3,"in_flight":2}})
    end
  end

  describe "GET /metrics and /dashboard" do
    defmodule Known do
      @moduledoc "One of PaymentQueue's own, so there is something to count."
      def name, do: :router_test
      def stats, do: PaymentQueue.stats(:router_test)
    end

    setup do
      start_supervised!({PaymentQueue, name: :router_test})
      :ok
    end

    test "metrics are Prometheus's text" do
      assert {200, headers, body} = call(Known, "GET", "/metrics")
      assert {"content-type", "text/plain; version=0.0.4; charset=utf-8"} in headers
      assert IO.iodata_to_binary(body) =~ ~s(payment_queue_depth{queue="router_test"} 0\n)
    end

    test "health is that of the queue" do
      assert {200, _, _} = call(Known, "GET", "/health")
      :ok = PaymentQueue.drain(:router_test)
      assert {503, %{"reason" => "queue_closed"}} = json(call(Known, "GET", "/health"))
    end

    test "the dashboard: page, events, and operations for operators only" do
      assert {200, _, page} = call(Known, "GET", "/dashboard")
      assert IO.iodata_to_binary(page) =~ "<title>Payments API</title>"
      assert {:events, _, stream, 1_000} = call(Known, "GET", "/dashboard/events", "queue=router_test")
      assert {["data: " | _], _} = PaymentQueue.Dashboard.next_event(stream)
      assert {403, _, _} = call(Known, "POST", "/dashboard/operations", "", "queue=router_test&operation=pause")
      assert {404, _, _} = call(Known, "GET", "/dashboard/x", "%zz")
    end

    test "a replaced queue has none" do
      assert {404, _, _} = call("GET", "/metrics")
      assert {404, _, _} = call("GET", "/dashboard")
    end
  end

  test "other paths and methods" do
    assert {404, %{"error" => "not_found"}} = json(call("GET", "/"))
    assert {404, _} = json(call("POST", "/payment"))
    assert {405, headers, _} = call("GET", "/payments")
    assert {"Allow", "POST"} in headers
    assert {405, headers, _} = call("DELETE", "/health")
    assert {"Allow", "GET, HEAD"} in headers
    assert {200, _, _} = call("HEAD", "/health")
    assert {405, _, _} = call("HEAD", "/payments")
  end

  defp call(method, path), do: call(Queue, method, path, "", "")
  defp call(queue, method, path) when is_atom(queue), do: call(queue, method, path, "", "")
  defp call(method, path, query), do: call(Queue, method, path, query, "")
  defp call(queue, method, path, query) when is_atom(queue), do: call(queue, method, path, query, "")
  defp call(method, path, query, body), do: call(Queue, method, path, query, body)

  defp call(queue, method, path, query, body) do
    Router.call(%{method: method, path: path, query: query, body: body}, queue)
  end

  defp post(body), do: call("POST", "/payments", "", body)
  defp payment, do: ~s({"correlationId":"#{UUID.format(UUID.random())}","amount":1})
  defp json({status, _headers, body}), do: {status, body |> IO.iodata_to_binary() |> :jiffy.decode([:return_maps])}

  defp summary(query) do
    assert {200, _, body} = call("GET", "/payments-summary", query)
    text = IO.iodata_to_binary(body)
    assert %{"default" => %{}, "fallback" => %{}} = :jiffy.decode(text, [:return_maps])
    text
  end

  defp time(ms), do: ms |> DateTime.from_unix!(:millisecond) |> DateTime.to_iso8601()
end
