defmodule PaymentQueue.LiveDashboardTest do
  use PaymentQueue.QueueCase, async: true

  alias PaymentQueue.LiveDashboard

  @params %{search: nil, sort_by: :waiting, sort_dir: :desc, limit: 50}

  test "rows: sorted, searched, limited, with rates since the look before" do
    prefix = new_name()
    [few, many] = for n <- [1, 2], do: queue!(name: :"#{prefix}_#{n}")
    {:ok, 3} = PaymentQueue.enqueue_many([1, 2, 3], queue: many)
    {:ok, 1} = PaymentQueue.enqueue_many([1], queue: few)
    params = %{@params | search: to_string(prefix)}
    assert {[first, second], 2, state} = LiveDashboard.rows(params, node(), %{})
    assert {first.name, first.waiting, first.done, first.wait_p99} == {to_string(many), 3, nil, nil}
    assert {second.name, second.waiting, second.workers} == {to_string(few), 1, nil}
    {:ok, _, _} = PaymentQueue.dequeue(queue: many)
    assert {[%{name: name, done: done, wait_p99: wait}], 2, _} = LiveDashboard.rows(%{params | limit: 1}, node(), state)
    assert name == to_string(many) and done > 0 and is_float(wait)
    assert {[], 0, _} = LiveDashboard.rows(%{params | search: "no such"}, node(), state)
  end
end

# The page itself in the real LiveDashboard, where that is on the code path (ERL_LIBS); test_helper.exs names it as
# skipped elsewhere.
if Code.ensure_loaded?(Phoenix.LiveDashboard.PageBuilder) do
  defmodule PaymentQueue.LiveDashboardPageTest do
    use PaymentQueue.QueueCase, async: false

    @moduletag :live_dashboard

    defmodule Queues do
      use PaymentQueue.LiveDashboard
    end

    defmodule Router do
      use Phoenix.Router
      import Phoenix.Controller
      import Phoenix.LiveDashboard.Router

      # As `mix phx.new` makes it.
      pipeline :browser do
        plug(:accepts, ["html"])
        plug(:fetch_session)
        plug(:protect_from_forgery)
        plug(:put_secure_browser_headers)
      end

      scope "/" do
        pipe_through(:browser)
        live_dashboard("/dashboard", additional_pages: [queues: Queues])
        forward("/queues", PaymentQueue.Plug.Dashboard, path: "/", authorize: {__MODULE__, :all})
      end

      def all(_conn), do: true
    end

    defmodule Endpoint do
      use Phoenix.Endpoint, otp_app: :payment_queue
      plug(Plug.Parsers, parsers: [:urlencoded], pass: ["*/*"])
      plug(Plug.Session, store: :cookie, key: "_test", signing_salt: "0123456789")
      plug(Router)
    end

    setup do
      for app <- [:phoenix, :phoenix_live_view, :phoenix_live_dashboard],
          do: {:ok, _} = Application.ensure_all_started(app)

      Application.put_env(:payment_queue, Endpoint,
        secret_key_base: String.duplicate("0123456789", 7),
        live_view: [signing_salt: "0123456789"],
        server: false
      )

      start_supervised!(Endpoint)
      :ok
    end

    test "the page shows the queues" do
      queue = queue!()
      {:ok, 3} = PaymentQueue.enqueue_many([1, 2, 3], queue: queue)
      # By name, because it shows 50, and the tests have more.
      conn = Plug.Test.conn(:get, "/dashboard/queues?search=#{queue}") |> Endpoint.call([])
      assert conn.status == 200
      assert conn.resp_body =~ "Payment queues"
      assert conn.resp_body =~ "#{queue}"
      assert conn.resp_body =~ "Handler 99 %, ms"
    end

    test "our own dashboard lives and operates behind a Phoenix pipeline for pages" do
      queue = queue!()
      page = Plug.Test.conn(:get, "/queues") |> Endpoint.call([])

      cookies =
        page |> Plug.Conn.get_resp_header("set-cookie") |> Enum.map_join("; ", &(&1 |> String.split(";") |> hd()))

      # What the page's script sends.
      assert page.resp_body =~ ~s(_format: "html")
      # Ends the stream after one event.
      send(self(), {:EXIT, self(), :test})

      events =
        Plug.Test.conn(:get, "/queues/events?_format=html&queue=#{queue}")
        |> Plug.Conn.put_req_header("accept", "text/event-stream")
        |> Endpoint.call([])

      assert_received {:EXIT, _, :test}
      assert Plug.Conn.get_resp_header(events, "content-type") == ["text/event-stream"]
      assert events.resp_body =~ ~s("id":"#{queue}")

      [[token], [host_token]] =
        for name <- ["csrf-token", "host-token"],
            do: Regex.run(~r/name="#{name}" content="(.+?)"/, page.resp_body, capture: :all_but_first)

      body = URI.encode_query(queue: queue, operation: "pause", _csrf_token: host_token)

      answer =
        Plug.Test.conn(:post, "/queues/operations", body)
        |> Plug.Conn.put_req_header("cookie", cookies)
        |> Plug.Conn.put_req_header("content-type", "application/x-www-form-urlencoded")
        |> Plug.Conn.put_req_header("x-csrf-token", token)
        |> Endpoint.call([])

      assert answer.status == 200
      assert PaymentQueue.info(queue).state == :paused
    end
  end
end
