defmodule PaymentQueue.Nats.SecretsTest do
  # Who we are, and who the server is.
  use PaymentQueue.QueueCase, async: false

  import ExUnit.CaptureLog

  alias PaymentQueue.NatsServer

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

  test "a token by a function or an environment variable; nothing shows it" do
    server = NatsServer.start(["--auth", @secret])
    System.put_env("PAYMENT_QUEUE_TEST_TOKEN", @secret)
    on_exit(fn -> System.delete_env("PAYMENT_QUEUE_TEST_TOKEN") end)

    for source <- [fn -> @secret end, {:env, "PAYMENT_QUEUE_TEST_TOKEN"}] do
      name = new_name()
      engine = {:nats, servers: [server.address], replicas: 1, credentials: {:token, source}}
      assert {:ok, tree} = start_supervised({PaymentQueue, name: name, engine: engine}, id: make_ref())
      assert PaymentQueue.enqueue(1, queue: name) == :ok

      seen =
        for pid <- [tree | for({_, pid, _, _} <- Supervisor.which_children(tree), do: pid)],
            do: inspect(:sys.get_status(pid), limit: :infinity, printable_limit: :infinity)

      log = capture_log(fn -> kill(tree) end)
      refute Enum.join([log, inspect(PaymentQueue.info(name)) | seen]) =~ @secret
    end

    wrong = [
      servers: [server.address],
      replicas: 1,
      connect_timeout: 2_000,
      credentials: {:token, fn -> "wrong-" <> @secret end}
    ]

    log =
      capture_log(fn ->
        assert {:error, reason} = start(wrong)
        refute inspect(reason, limit: :infinity) =~ @secret
      end)

    refute log =~ @secret
  end

  defp openssl!(dir, args) do
    {output, status} = System.cmd("openssl", args, cd: dir, stderr_to_stdout: true)
    assert status == 0, output
  end

  defp authority!(dir, name) do
    openssl!(
      dir,
      ~w(req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -keyout #{name}.key -out #{name}.pem
      -subj /CN=#{name} -addext basicConstraints=critical,CA:TRUE)
    )
  end

  test "TLS: the server's certificate counts, and there is no way around it" do
    dir = Path.join(System.tmp_dir!(), "pq_tls_#{System.pid()}_#{System.unique_integer([:positive])}")
    File.mkdir_p!(dir)
    on_exit(fn -> File.rm_rf!(dir) end)
    for name <- ~w(ours other), do: authority!(dir, name)

    openssl!(
      dir,
      ~w(req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout server.key -out server.csr -subj /CN=server)
    )

    File.write!(Path.join(dir, "ext"), "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n")

    openssl!(
      dir,
      ~w(x509 -req -in server.csr -CA ours.pem -CAkey ours.key -CAcreateserial -days 2 -out server.pem -extfile ext)
    )

    path = &Path.join(dir, &1)
    server = NatsServer.start(["--tls", "--tlscert", path.("server.pem"), "--tlskey", path.("server.key")])
    engine = [servers: [server.address], replicas: 1, connect_timeout: 5_000]

    assert {:ok, _} = start(engine ++ [tls: [cacertfile: path.("ours.pem")]])
    assert {:error, other} = start(engine ++ [tls: [cacertfile: path.("other.pem")]])
    assert {:error, none} = start(engine ++ [tls: true])

    for reason <- [other, none],
        do: assert(inspect(reason, limit: :infinity) =~ ~r/certificate|UnknownIssuer/)
  end
end
