defmodule PaymentQueue.Nats.SecretsTest do
  # Who we are: every kind of credentials against a real server, and nothing that shows one.
  use PaymentQueue.QueueCase, async: false

  import ExUnit.CaptureLog

  alias PaymentQueue.{NatsIdentity, NatsServer}

  @moduletag :nats
  @secret "s3cr3t-that-nobody-sees"

  defp start(engine), do: start_supervised({PaymentQueue, name: new_name(), engine: {:nats, engine}}, id: make_ref())

  defp refused(engine) do
    error = assert_raise ArgumentError, fn -> PaymentQueue.child_spec(name: :nats_refused, engine: {:nats, engine}) end
    refute error.message =~ @secret
    error.message
  end

  test "a plain secret is refused before a supervisor sees it, and not shown" do
    local = [servers: ["127.0.0.1:4222"]]
    assert refused(local ++ [credentials: {:token, @secret}]) =~ "crash reports"
    assert refused(local ++ [credentials: {:user, "me", @secret}]) =~ "{:env, \"NAME\"}"
    assert refused(local ++ [credentials: @secret]) =~ ":credentials is {:file, path}"
    assert refused(servers: ["nats://me:#{@secret}@127.0.0.1:4222"]) =~ "belong into :credentials"
    assert refused(local ++ [tls: [verify: :verify_none]]) =~ "always verified"
    assert refused(local ++ [replicas: 9]) =~ "1..5"
    assert refused(local ++ [strem: "a"]) =~ "unknown option :strem"
    assert refused([]) =~ ":servers is a list"
  end

  # All that an operator or a crash may show of the queue's processes while it works, fails, and is killed.
  defp shown(credentials, server) do
    name = new_name()
    engine = {:nats, servers: [server.address], replicas: 1, credentials: credentials}
    options = [name: name, engine: engine, handler: fn _ -> exit(:no) end, concurrency: 1, max_attempts: 1]
    {:ok, parent} = Supervisor.start_link([{PaymentQueue, options}], strategy: :one_for_one)
    tree = tree(name)

    log =
      capture_log(fn ->
        assert PaymentQueue.enqueue(1, queue: name) == :ok
        dead_letters(name, 1)
        send(self(), {:status, statuses([parent, tree | children(tree)])})
        kill(tree)
        eventually(fn -> tree(name) not in [nil, tree] end)
        Supervisor.stop(parent)
      end)

    assert_received {:status, status}
    # Without it, the absence below would say nothing.
    assert status =~ server.address
    Enum.join([log, status, inspect(PaymentQueue.info(name), limit: :infinity)])
  end

  defp children(supervisor), do: for({_, pid, _, _} <- Supervisor.which_children(supervisor), is_pid(pid), do: pid)

  defp statuses(pids) do
    for pid <- pids, fun <- [&:sys.get_status/1, &:sys.get_state/1, &Process.info/1], into: "" do
      inspect(fun.(pid), limit: :infinity, printable_limit: :infinity, structs: false)
    end
  end

  # What a start with them answers, and logs.
  defp refused_start(credentials, server) do
    engine = [servers: [server.address], replicas: 1, connect_timeout: 2_000, credentials: credentials]

    log =
      capture_log(fn ->
        assert {:error, reason} = start(engine)
        send(self(), {:reason, inspect(reason, limit: :infinity)})
      end)

    assert_received {:reason, reason}
    log <> reason
  end

  test "a token by a function or an environment variable; nothing shows it" do
    server = NatsServer.start(["--auth", @secret])
    System.put_env("PAYMENT_QUEUE_TEST_TOKEN", @secret)
    on_exit(fn -> System.delete_env("PAYMENT_QUEUE_TEST_TOKEN") end)

    for source <- [fn -> @secret end, {:env, "PAYMENT_QUEUE_TEST_TOKEN"}],
        do: refute(shown({:token, source}, server) =~ @secret)

    refute refused_start({:token, fn -> "wrong-" <> @secret end}, server) =~ @secret
    assert refused_start({:token, {:env, "NOBODY_SETS_THIS"}}, server) =~ "NOBODY_SETS_THIS is not set"

    for wrong <- [String.to_charlist(@secret), @secret <> <<255>>, {:ok, @secret}] do
      text = refused_start({:token, fn -> wrong end}, server)
      assert text =~ "is no text in UTF-8"
      refute text =~ @secret
    end
  end

  test "user and password" do
    server = NatsServer.start(["--user", "payments", "--pass", @secret])
    refute shown({:user, "payments", fn -> @secret end}, server) =~ @secret
    refute refused_start({:user, "payments", fn -> "wrong-" <> @secret end}, server) =~ @secret
    assert refused_start(nil, server) =~ ~r/authorization/i
  end

  test "an nkey" do
    key = NatsIdentity.nkey(:user)
    server = NatsServer.start(["-c", config("authorization: { users: [ { nkey: #{key.public} } ] }")])
    refute shown({:nkey, fn -> key.seed end}, server) =~ key.seed
    other = NatsIdentity.nkey(:user)
    refute refused_start({:nkey, fn -> other.seed end}, server) =~ other.seed
  end

  test "a creds file: a JWT and its seed" do
    identity = NatsIdentity.operator_mode()
    server = NatsServer.start(["-c", config(identity.config)])
    file = config(identity.creds)
    text = shown({:file, file}, server)
    refute text =~ identity.seed
    refute text =~ "BEGIN NATS USER JWT"
    File.write!(file, "no JWT but " <> @secret)
    # Another VM would read the new file; here the connection is shared by its options, so they must differ.
    copy = config(File.read!(file))
    shown = refused_start({:file, copy}, server)
    assert shown =~ "no JWT and seed"
    refute shown =~ @secret
  end

  defp config(text) do
    path = Path.join(scratch_dir(), "file")
    File.write!(path, text)
    path
  end
end
