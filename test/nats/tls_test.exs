defmodule PaymentQueue.Nats.TlsTest do
  # Who the server is: a real one with TLS on, certificates of authorities made here, and no way around their check.
  use PaymentQueue.QueueCase, async: false

  alias PaymentQueue.NatsServer

  @moduletag :nats

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

  # A certificate by the authority `ours`.
  defp certificate!(dir, name, extensions) do
    openssl!(
      dir,
      ~w(req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout #{name}.key -out #{name}.csr -subj /CN=#{name})
    )

    File.write!(Path.join(dir, name <> ".ext"), extensions)

    openssl!(
      dir,
      ~w(x509 -req -in #{name}.csr -CA ours.pem -CAkey ours.key -CAcreateserial -days 2 -out #{name}.pem
      -extfile #{name}.ext)
    )
  end

  setup do
    dir = scratch_dir()
    for name <- ~w(ours other), do: authority!(dir, name)
    %{dir: dir, path: &Path.join(dir, &1)}
  end

  defp serve(path, name, more \\ []),
    do: NatsServer.start(["--tls", "--tlscert", path.(name <> ".pem"), "--tlskey", path.(name <> ".key")] ++ more)

  defp start(address, tls) do
    engine = {:nats, servers: [address], replicas: 1, connect_timeout: 5_000, tls: tls}
    name = new_name()
    with {:ok, _} <- start_supervised({PaymentQueue, name: name, engine: engine}, id: make_ref()), do: {:ok, name}
  end

  defp refused(address, tls) do
    assert {:error, reason} = start(address, tls)
    inspect(reason, limit: :infinity)
  end

  test "an authority that we name works; without it, or with another, the server is refused", %{dir: dir, path: path} do
    certificate!(dir, "server", "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n")
    server = serve(path, "server")
    assert {:ok, queue} = start(server.address, cacertfile: path.("ours.pem"))
    assert PaymentQueue.enqueue(:safe, queue: queue) == :ok
    assert take_all(queue) == [:safe]
    assert refused(server.address, cacertfile: path.("other.pem")) =~ "UnknownIssuer"
    assert refused(server.address, true) =~ "UnknownIssuer"
  end

  test "a certificate for another name is refused", %{dir: dir, path: path} do
    certificate!(dir, "server", "subjectAltName=DNS:nats.example\nextendedKeyUsage=serverAuth\n")
    server = serve(path, "server")
    tls = [cacertfile: path.("ours.pem")]
    assert refused(server.address, tls) =~ "not valid for name"
    assert refused(String.replace(server.address, "127.0.0.1", "localhost"), tls) =~ "not valid for name"
  end

  test "a server that offers no TLS is refused", %{path: path} do
    server = NatsServer.start()
    assert {:error, _} = start(server.address, cacertfile: path.("ours.pem"))
  end

  test "a server that wants to know who we are gets our certificate", %{dir: dir, path: path} do
    certificate!(dir, "server", "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n")
    certificate!(dir, "client", "subjectAltName=DNS:payments\nextendedKeyUsage=clientAuth\n")
    server = serve(path, "server", ["--tlsverify", "--tlscacert", path.("ours.pem")])
    ours = [cacertfile: path.("ours.pem")]
    assert {:error, _} = start(server.address, ours)
    assert {:ok, queue} = start(server.address, ours ++ [certfile: path.("client.pem"), keyfile: path.("client.key")])
    assert PaymentQueue.enqueue(:known, queue: queue) == :ok
  end

  test "TLS is on for every server but loopback addresses, unless it is turned off" do
    for {servers, tls} <- [
          {["nats.internal:4222"], {nil, nil, nil}},
          {["127.0.0.1:1", "10.0.0.1:1"], {nil, nil, nil}},
          {["127.0.0.1:1", "localhost", "[::1]:4222"], nil}
        ] do
      options = PaymentQueue.Options.start!(engine: {:nats, servers: servers})
      assert options.engine.tls == tls
    end

    assert PaymentQueue.Options.start!(engine: {:nats, servers: ["a:1"], tls: false}).engine.tls == nil
  end
end
