defmodule PaymentQueue.DashboardTest do
  use PaymentQueue.QueueCase, async: true

  import ExUnit.CaptureLog

  alias PaymentQueue.Dashboard.Csrf
  alias PaymentQueue.{Dashboard, JsonReader}

  defp request(method, path, params \\ %{}, headers \\ %{}),
    do: %{method: method, path: path, params: params, headers: headers, base: "/queues", secure: false}

  defp config(queues, opts \\ []), do: Dashboard.options!([queues: List.wrap(queues)] ++ opts)

  # What a browser would have after loading the page: the cookie and the token.
  defp load(config, who) do
    {:ok, 200, headers, body} = Dashboard.respond(config, request("GET", []), who)
    html = IO.iodata_to_binary(body)
    [_, token] = Regex.run(~r/<meta name="csrf-token" content="([^"]*)">/, html)

    cookie = with {_, cookie} <- List.keyfind(headers, "set-cookie", 0), do: cookie |> String.split(";") |> hd()

    %{html: html, headers: headers, token: token, cookie: cookie}
  end

  defp operate(config, page, params, who, more \\ %{}) do
    headers = Map.merge(%{"cookie" => page.cookie, "x-csrf-token" => page.token}, more)
    {:ok, status, _, body} = Dashboard.respond(config, request("POST", ["operations"], params, headers), who)
    {status, JsonReader.decode!(body)["message"]}
  end

  defp next({text, stream}), do: {event(text), stream}
  defp event(text), do: text |> IO.iodata_to_binary() |> String.replace_prefix("data: ", "") |> JsonReader.decode!()

  defp events(config, queue, who \\ false) do
    {:events, headers, stream} =
      Dashboard.respond(config, request("GET", ["events"], %{"queue" => to_string(queue)}), who)

    assert {"content-type", "text/event-stream"} in headers
    next(Dashboard.next_event(stream))
  end

  describe "the page" do
    test "is one piece that its own policy allows, and nothing else" do
      page = load(config(queue!()), false)
      {_, policy} = List.keyfind(page.headers, "content-security-policy", 0)
      assert policy =~ "default-src 'none'"
      refute policy =~ "unsafe"
      refute page.html =~ ~r/<(link|img|iframe)|(src|href)="[^#]|\sstyle=|\son\w+=/

      for {tag, count} <- [{"script", 4}, {"style", 2}] do
        contents = Regex.scan(~r/<#{tag}>(.*?)<\/#{tag}>/s, page.html, capture: :all_but_first)
        assert length(contents) == count

        for [content] <- contents do
          assert policy =~ "'sha256-#{Base.encode64(:crypto.hash(:sha256, content))}'"
        end
      end
    end

    test "shows a title as text" do
      page = load(config(queue!(), title: ~s(<b>"Q" & 'A'</b>)), false)
      assert page.html =~ "<title>&lt;b&gt;&quot;Q&quot; &amp; &#39;A&#39;&lt;/b&gt;</title>"
      refute page.html =~ "<b>\"Q"
    end

    test "has a token and a cookie only for those who may operate" do
      config = config(queue!())
      assert %{token: "", cookie: nil} = load(config, false)
      page = load(config, true)
      {_, cookie} = List.keyfind(page.headers, "set-cookie", 0)
      assert cookie =~ ~r/^payment_queue_csrf=[\w-]{24}; Path=\/queues; HttpOnly; SameSite=Strict$/
      secure = %{request("GET", []) | secure: true}
      assert {:ok, 200, headers, _} = Dashboard.respond(config, secure, true)
      assert headers |> List.keyfind("set-cookie", 0) |> elem(1) =~ "; Secure"
      # A second page in the same browser leaves the first one's token good.
      again = request("GET", [], %{}, %{"cookie" => "other=1; " <> page.cookie})
      assert {:ok, 200, _, body} = Dashboard.respond(config, again, true)
      assert IO.iodata_to_binary(body) =~ page.token
    end

    test "other methods and paths" do
      config = config(queue!())
      assert {:ok, 405, _, _} = Dashboard.respond(config, request("DELETE", []), true)
      assert {:ok, 405, _, _} = Dashboard.respond(config, request("POST", ["events"]), true)
      assert {:ok, 404, _, _} = Dashboard.respond(config, request("GET", ["events", "more"]), true)
      assert {:ok, 200, _, _} = Dashboard.respond(config, request("HEAD", []), false)
    end
  end

  describe "the events" do
    test "show the queue, then what changed per second" do
      queue = queue!(capacity: 50)
      other = queue!()
      config = config([queue, other])
      {first, stream} = events(config, queue)
      assert first["queue"]["change"] == nil
      assert %{"queue_size" => 0, "state" => "running"} = first["queue"]["info"]
      assert first["queue"]["settings"]["capacity"] == 50
      assert Enum.map(first["queues"], & &1["id"]) == [to_string(queue), to_string(other)]
      assert first["dead"] == []

      {:ok, 10} = PaymentQueue.enqueue_many(Enum.to_list(1..10), queue: queue)
      for _ <- 1..4, do: {:ok, _, _} = PaymentQueue.dequeue(queue: queue)
      {second, stream} = next(Dashboard.next_event(stream))
      assert %{"enqueued" => enqueued, "settled" => settled, "wait_us" => %{"p50" => _}} = second["queue"]["change"]
      assert enqueued > 0
      assert_in_delta settled / enqueued, 0.4, 0.01
      assert second["dead"] == nil, "they are sent when there are others"
      {third, _} = next(Dashboard.next_event(stream))
      assert %{"enqueued" => zero, "wait_us" => nil} = third["queue"]["change"]
      assert zero == 0
    end

    test "show dead letters without their payload, unless it was asked for and may be seen" do
      queue = queue!()
      :ok = PaymentQueue.enqueue("secret card 4711", queue: queue)
      {:ok, _, lease} = PaymentQueue.take(queue: queue)
      {before, stream} = events(config(queue), queue)
      assert before["dead"] == []
      :ok = PaymentQueue.reject(lease, {:declined, "secret card 4711"})
      {text, _} = Dashboard.next_event(stream)
      assert [%{"reason" => "{:declined, (the payload)}", "attempts" => 1, "payload" => nil}] = event(text)["dead"]
      refute IO.iodata_to_binary(text) =~ "4711"

      shown = config(queue, payloads: true)
      assert {%{"dead" => [%{"payload" => nil}]}, _} = events(shown, queue)
      assert {%{"dead" => [%{"payload" => payload}]}, _} = events(shown, queue, true)
      assert payload =~ "4711"
    end

    test "notice dead letters that others took the place of" do
      queue = queue!()
      {:ok, 2} = PaymentQueue.enqueue_many([1, 2], queue: queue)
      reject = fn reason -> PaymentQueue.take(queue: queue) |> elem(2) |> PaymentQueue.reject(reason) end
      :ok = reject.(:first)
      {%{"dead" => [%{"reason" => ":first"}]}, stream} = events(config(queue), queue)
      {:ok, 1} = PaymentQueue.requeue_dead(queue)
      :ok = reject.(:second)
      {seen, _} = Enum.map_reduce(1..11, stream, fn _, stream -> next(Dashboard.next_event(stream)) end)
      assert Enum.find_value(seen, & &1["dead"]) |> Enum.map(& &1["reason"]) == [":second"]
    end

    test "show the workers" do
      queue = queue!(handler: fn _ -> :ok end, concurrency: 3)
      {event, _} = events(config(queue), queue)
      assert event["queue"]["workers"] == %{"target" => 3, "running" => 3}
      alone = queue!()
      assert {%{"queue" => %{"workers" => nil}}, _} = events(config(alone), alone)
    end

    test "of a queue that is not to be shown, or never was" do
      queue = queue!()
      {event, _} = events(config(queue), queue!())
      assert event["queue"]["id"] == to_string(queue), "the first that may be shown"
      assert {%{"queue" => nil, "queues" => []}, _} = events(config(:never_started), :never_started)
    end
  end

  describe "operations" do
    setup do
      queue = queue!(handler: asking(self()), concurrency: 1)
      config = config(queue)
      %{queue: queue, config: config, page: load(config, true), id: to_string(queue)}
    end

    test "pause, resume, scale", %{queue: queue, config: config, page: page, id: id} do
      assert {200, message} = operate(config, page, %{"queue" => id, "operation" => "pause"}, true)
      assert message =~ "is paused"
      assert PaymentQueue.info(queue).state == :paused
      assert {200, _} = operate(config, page, %{"queue" => id, "operation" => "resume"}, true)
      assert PaymentQueue.info(queue).state == :running
      scale = %{"queue" => id, "operation" => "scale", "value" => "4"}
      assert {200, "#{id} has 4 workers now"} == operate(config, page, scale, true)
      eventually(fn -> length(workers(queue)) == 4 end)

      for value <- ["", "x", "-1", "65536", "1.5", nil, ["1"]] do
        assert {422, "the number of workers" <> _} = operate(config, page, %{scale | "value" => value}, true)
      end
    end

    test "put dead letters back", %{queue: queue, config: config, page: page, id: id} do
      :ok = PaymentQueue.enqueue(1, queue: queue)
      assert_receive {:handling, worker, 1}
      send(worker, {:return, {:cancel, :no}})
      dead_letters(queue, 1)
      :ok = PaymentQueue.pause(queue)
      assert {200, message} = operate(config, page, %{"queue" => id, "operation" => "requeue_dead"}, true)
      assert message =~ "1 dead letter put back"
      assert %{dead: 0, queue_size: 1} = PaymentQueue.info(queue)
    end

    test "are refused to those who may only look", %{queue: queue, config: config, page: page, id: id} do
      assert {403, _} = operate(config, page, %{"queue" => id, "operation" => "pause"}, false)
      assert PaymentQueue.info(queue).state == :running
    end

    test "are refused without the token and the cookie of one page", %{queue: queue, config: config, page: page, id: id} do
      pause = %{"queue" => id, "operation" => "pause"}
      other = load(config, true)

      for page <- [
            %{page | token: nil},
            %{page | token: ""},
            %{page | cookie: nil},
            %{page | cookie: "payment_queue_csrf=x"},
            %{page | token: other.token},
            %{page | token: String.replace_prefix(page.cookie, "payment_queue_csrf=", "")}
          ] do
        assert {403, "this page is out of date" <> _} = operate(config, page, pause, true)
      end

      for site <- ["cross-site", "same-site", "none"] do
        assert {403, _} = operate(config, page, pause, true, %{"sec-fetch-site" => site})
      end

      assert PaymentQueue.info(queue).state == :running
      assert {200, _} = operate(config, page, pause, true, %{"sec-fetch-site" => "same-origin"})
    end

    test "reach only queues that are shown, by names that are there", %{config: config, page: page} do
      hidden = queue!()

      assert {422, "there is no such queue"} =
               operate(config, page, %{"queue" => to_string(hidden), "operation" => "pause"}, true)

      assert {422, _} = operate(config, page, %{"operation" => "pause"}, true)
      assert PaymentQueue.info(hidden).state == :running
    end

    test "unknown ones do nothing", %{config: config, page: page, id: id} do
      for operation <- ["purge", "", nil] do
        params = %{"queue" => id, "operation" => operation}
        assert {422, "there is no such operation"} = operate(config, page, params, true)
      end
    end

    test "are logged with who asked", %{config: config, page: page, id: id} do
      level = Logger.level()
      on_exit(fn -> Logger.configure(level: level) end)
      log = capture_log(fn -> operate(config, page, %{"queue" => id, "operation" => "resume"}, "ada") end)
      assert log =~ ~s(from the dashboard, by "ada": #{id} is running)
    end
  end

  test "a token fits one cookie" do
    {value, token} = Csrf.issue(nil)
    assert Csrf.valid?(value, token)
    assert Csrf.issue(value) == {value, token}
    {other, _} = Csrf.issue("not one of ours")
    refute other == value
    refute Csrf.valid?(other, token)
    refute Csrf.valid?(nil, nil)
  end

  test "says what is wrong with an option" do
    assert_raise ArgumentError, ~r/invalid value for :interval: 5; allowed/, fn -> Dashboard.options!(interval: 5) end
    assert_raise ArgumentError, ~r/Did you mean :interval/, fn -> Dashboard.options!(intervall: 500) end
  end
end
