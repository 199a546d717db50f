# With the real Plug, where it is on the code path (ERL_LIBS); test_helper.exs names it as skipped elsewhere.
if Code.ensure_loaded?(Plug.Builder) do
  defmodule PaymentQueue.PlugTest do
    use PaymentQueue.QueueCase, async: true

    @moduletag :plug

    defmodule Pipeline do
      use Plug.Builder

      plug(PaymentQueue.Plug.Health, queue: :plug_pipeline, max_queue_size: 1)
      plug(PaymentQueue.Plug.Metrics, path: "/internal/metrics", queues: [:plug_pipeline])
      plug(PaymentQueue.Plug.Dashboard, path: "/queues", queues: [:plug_pipeline], authorize: &__MODULE__.operator/1)
      plug(:rest)

      def operator(conn), do: Plug.Conn.get_req_header(conn, "authorization") == ["ada"] && {:ok, "ada"}
      def rest(conn, _), do: Plug.Conn.send_resp(conn, 299, "passed through")
    end

    defp request(method, path, headers \\ [], body \\ nil) do
      conn = Plug.Test.conn(method, path, body)
      conn = Enum.reduce(headers, conn, fn {name, value}, conn -> Plug.Conn.put_req_header(conn, name, value) end)
      Pipeline.call(conn, Pipeline.init([]))
    end

    setup_all do
      {:ok, _} = Application.ensure_all_started(:plug)
      start_supervised!({PaymentQueue, name: :plug_pipeline, shutdown: 100})
      :ok
    end

    test "health: its path is answered and halted, all else passes through" do
      conn = request(:get, "/health")
      assert {conn.status, conn.halted} == {200, true}
      assert conn.resp_body == ~s({"status":"ok","queue":{"queue_size":0,"in_flight":0}})
      assert Plug.Conn.get_resp_header(conn, "content-type") == ["application/json"]
      assert request(:head, "/health").status == 200

      for {method, path} <- [get: "/", get: "/health/more", post: "/health", get: "/healthy"] do
        assert %{status: 299, halted: false} = request(method, path)
      end
    end

    test "health: 503 over the threshold" do
      config = PaymentQueue.Plug.Health.init(queue: queue = queue!(), max_queue_size: 0)
      PaymentQueue.enqueue(1, queue: queue)
      conn = PaymentQueue.Plug.Health.call(Plug.Test.conn(:get, "/health"), config)
      assert {conn.status, conn.halted} == {503, true}
    end

    test "metrics" do
      conn = request(:get, "/internal/metrics")
      assert {conn.status, conn.halted} == {200, true}
      assert Plug.Conn.get_resp_header(conn, "content-type") == ["text/plain; version=0.0.4; charset=utf-8"]
      assert conn.resp_body =~ ~s(payment_queue_depth{queue="plug_pipeline"} 0)
      assert request(:get, "/metrics").status == 299
    end

    test "dashboard: the page, for looking and for operating" do
      conn = request(:get, "/queues")
      assert {conn.status, conn.halted} == {200, true}
      assert conn.resp_body =~ ~s(name="csrf-token" content="")
      assert Plug.Conn.get_resp_header(conn, "set-cookie") == []
      conn = request(:get, "/queues/", [{"authorization", "ada"}])
      assert conn.resp_body =~ ~r/name="csrf-token" content=".+"/
      assert [cookie] = Plug.Conn.get_resp_header(conn, "set-cookie")
      assert cookie =~ "Path=/queues;"
      assert request(:get, "/queues/nothing").status == 404
      assert request(:get, "/queuesx").status == 299
    end

    test "dashboard: operations, with and without Plug.Parsers before it" do
      page = request(:get, "/queues", [{"authorization", "ada"}])
      [_, token] = Regex.run(~r/name="csrf-token" content="(.+?)"/, page.resp_body)
      [cookie] = Plug.Conn.get_resp_header(page, "set-cookie")

      headers = [
        {"authorization", "ada"},
        {"x-csrf-token", token},
        {"cookie", cookie |> String.split(";") |> hd()},
        {"content-type", "application/x-www-form-urlencoded"}
      ]

      body = &URI.encode_query(queue: "plug_pipeline", operation: &1)
      assert %{status: 200, resp_body: message} = request(:post, "/queues/operations", headers, body.("pause"))
      assert message =~ "is paused"
      assert PaymentQueue.info(:plug_pipeline).state == :paused

      conn =
        Enum.reduce(headers, Plug.Test.conn(:post, "/queues/operations", body.("resume")), fn {name, value}, conn ->
          Plug.Conn.put_req_header(conn, name, value)
        end)

      parsed = Plug.Parsers.call(conn, Plug.Parsers.init(parsers: [:urlencoded]))
      assert Pipeline.call(parsed, []).status == 200
      assert PaymentQueue.info(:plug_pipeline).state == :running

      assert request(:post, "/queues/operations", tl(headers), body.("pause")).status == 403
      assert request(:post, "/queues/operations", List.delete_at(headers, 1), body.("pause")).status == 403
      assert request(:post, "/queues/operations", headers, String.duplicate("x", 10_000)).status == 422
      assert PaymentQueue.info(:plug_pipeline).state == :running
    end

    defmodule Sessions do
      use Plug.Builder

      plug(:put_secret)
      plug(Plug.Session, store: :cookie, key: "_host", signing_salt: "0123456789")
      plug(:fetch_session)
      plug(Plug.Parsers, parsers: [:urlencoded])
      plug(:protect)
      plug(PaymentQueue.Plug.Dashboard, path: "/", queues: [:plug_pipeline], authorize: {__MODULE__, :all})

      def put_secret(conn, _), do: %{conn | secret_key_base: String.duplicate("0123456789", 7)}
      def all(_conn), do: true

      def protect(%{path_info: ["unprotected" | path]} = conn, _), do: %{conn | path_info: path}
      def protect(conn, _), do: Plug.CSRFProtection.call(conn, Plug.CSRFProtection.init([]))
    end

    defp meta(html, name) do
      [_, content] = Regex.run(~r/name="#{name}" content="(.*?)"/, html)
      content
    end

    test "dashboard: operations behind the host's own protection against forgery" do
      page = Sessions.call(Plug.Test.conn(:get, "/"), Sessions.init([]))

      body =
        URI.encode_query(queue: "plug_pipeline", operation: "resume", _csrf_token: meta(page.resp_body, "host-token"))

      cookies =
        page |> Plug.Conn.get_resp_header("set-cookie") |> Enum.map_join("; ", &(&1 |> String.split(";") |> hd()))

      post = fn body ->
        Plug.Test.conn(:post, "/operations", body)
        |> Plug.Conn.put_req_header("cookie", cookies)
        |> Plug.Conn.put_req_header("content-type", "application/x-www-form-urlencoded")
        |> Plug.Conn.put_req_header("x-csrf-token", meta(page.resp_body, "csrf-token"))
        |> Sessions.call(Sessions.init([]))
      end

      assert post.(body).status == 200
      unprotected = URI.encode_query(queue: "plug_pipeline", operation: "resume")
      assert_raise Plug.CSRFProtection.InvalidCSRFTokenError, fn -> post.(unprotected) end
    end

    test "dashboard: leaves no token to the connection's next request" do
      conn = Sessions.call(Plug.Test.conn(:get, "/unprotected"), Sessions.init([]))
      assert meta(conn.resp_body, "host-token") != ""
      protected = Sessions.call(Plug.Test.conn(:get, "/"), Sessions.init([]))
      %{"_csrf_token" => state} = Plug.Conn.get_session(protected)
      assert Plug.CSRFProtection.valid_state_and_csrf_token?(state, meta(protected.resp_body, "host-token"))
    end

    test "behind a forward, paths are relative" do
      defmodule Forwarding do
        use Plug.Router

        plug(:match)
        plug(:dispatch)

        forward("/admin/queues", to: PaymentQueue.Plug.Dashboard, init_opts: [path: "/", authorize: {__MODULE__, :all}])
        forward("/up", to: PaymentQueue.Plug.Health, init_opts: [path: "/", queue: :plug_pipeline])
        match(_, do: send_resp(conn, 299, ""))

        def all(_conn), do: true
      end

      call = &Forwarding.call(Plug.Test.conn(:get, &1), Forwarding.init([]))
      assert %{status: 200} = conn = call.("/admin/queues")
      assert [cookie] = Plug.Conn.get_resp_header(conn, "set-cookie")
      assert cookie =~ "Path=/admin/queues;"
      assert call.("/up").status == 200
      assert call.("/down").status == 299
    end

    test "options are checked" do
      assert_raise ArgumentError, ~r/invalid value for :path: "health"; allowed: a path that begins/, fn ->
        PaymentQueue.Plug.Health.init(path: "health")
      end

      assert_raise ArgumentError, ~r/invalid value for :authorize/, fn ->
        PaymentQueue.Plug.Dashboard.init(authorize: true)
      end

      assert_raise ArgumentError, ~r/unknown option :authorise/, fn ->
        PaymentQueue.Plug.Dashboard.init(authorise: &is_map/1)
      end
    end
  end
end
