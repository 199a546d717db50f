defmodule PaymentQueue.Nats.Options do
  @moduledoc false
  # `engine: {:nats, opts}`. A secret never stands in the options, which supervisors print: it is named, or made by a function,
  # and read when the connection is.

  @known [
    :servers,
    :stream,
    :replicas,
    :tls,
    :credentials,
    :ack_wait,
    :duplicate_window,
    :prefetch,
    :connect_timeout,
    :allow_unsafe_server
  ]

  @doc "The options validated, as a map; `ArgumentError` else, which never shows a value that may be a secret."
  @spec validate!(term(), map()) :: map()
  def validate!({:nats, opts}, config) do
    unless Keyword.keyword?(opts), do: bad!("the options of :nats are a keyword list")

    case Keyword.keys(opts) -- @known do
      [] -> :ok
      [key | _] -> bad!("unknown option #{inspect(key)}; known: #{Enum.map_join(@known, ", ", &inspect/1)}")
    end

    servers = opts |> Keyword.get(:servers, []) |> servers!()
    credentials = opts |> Keyword.get(:credentials) |> credentials!()

    %{
      servers: servers,
      stream: stream!(Keyword.get(opts, :stream, Atom.to_string(config.name))),
      replicas: integer!(opts, :replicas, 3, 1..5),
      tls: opts |> Keyword.get(:tls, not Enum.all?(servers, &loopback?/1)) |> tls!(),
      credentials: credentials,
      ack_wait: integer!(opts, :ack_wait, 30_000, 1_000..3_600_000),
      duplicate_window: integer!(opts, :duplicate_window, 120_000, 1_000..86_400_000),
      prefetch: integer!(opts, :prefetch, if(config.handler, do: config.concurrency, else: 0), 0..100_000),
      connect_timeout: integer!(opts, :connect_timeout, 10_000, 1..600_000),
      allow_unsafe_server: boolean!(opts, :allow_unsafe_server)
    }
  end

  def validate!(_other, _config), do: bad!("expected {:nats, servers: [...], stream: ..., ...}")

  @doc "The secret itself, read now. Never kept on this side."
  @spec secret(term()) :: PaymentQueue.Nats.Native.secret()
  def secret(nil), do: :none
  def secret({:file, path}), do: {:creds, text!(File.read!(path), "the file of :credentials")}
  def secret({:token, source}), do: {:token, reveal(source)}
  def secret({:nkey, source}), do: {:nkey, reveal(source)}
  def secret({:user, user, source}), do: {:user, user, reveal(source)}

  defp reveal({:env, name}),
    do: text!(System.get_env(name) || bad!("the environment variable #{name} is not set"), "the variable #{name}")

  defp reveal(fun), do: text!(fun.(), "what the function of :credentials returns")

  # Never shown, whatever it is.
  defp text!(value, what),
    do: if(is_binary(value) and String.valid?(value), do: value, else: bad!("#{what} is no text in UTF-8"))

  defp servers!([_ | _] = servers) do
    Enum.map(servers, fn server ->
      with true <- is_binary(server),
           [_, _scheme, host] <-
             Regex.run(~r"^((?:nats|tls)://)?([A-Za-z0-9._-]+|\[[0-9a-fA-F:]+\])(?::\d{1,5})?$", server) do
        _ = host
        Regex.replace(~r"^(nats|tls)://", server, "")
      else
        # Whatever it is may hold a password.
        _ -> bad!("each of :servers is \"host:port\"; user and password belong into :credentials")
      end
    end)
  end

  defp servers!(_), do: bad!(":servers is a list of at least one \"host:port\"")

  defp loopback?(server), do: server =~ ~r/^(localhost|127\.[\d.]+|\[::1\])(:\d+)?$/

  defp stream!(stream) do
    if is_binary(stream) and stream =~ ~r/^[A-Za-z0-9_-]{1,200}$/,
      do: stream,
      else:
        bad!(
          ":stream is a string of letters, digits, - and _ (the default is the queue's name), got: #{inspect(stream)}"
        )
  end

  defp tls!(false), do: nil
  defp tls!(true), do: {nil, nil, nil}

  defp tls!(opts) do
    with true <- Keyword.keyword?(opts),
         [] <- Keyword.keys(opts) -- [:cacertfile, :certfile, :keyfile],
         true <- Enum.all?(opts, fn {_, path} -> is_binary(path) and File.regular?(path) end),
         true <- Keyword.has_key?(opts, :certfile) == Keyword.has_key?(opts, :keyfile) do
      {opts[:cacertfile], opts[:certfile], opts[:keyfile]}
    else
      _ ->
        bad!(
          ":tls is true, false, or a keyword list of existing files: cacertfile:, and certfile: with keyfile:. " <>
            "The server's certificate is always verified"
        )
    end
  end

  defp credentials!(nil), do: nil
  defp credentials!({:file, path} = file) when is_binary(path), do: file
  defp credentials!({kind, source} = secret) when kind in [:token, :nkey], do: named!(source, secret)
  defp credentials!({:user, user, source} = secret) when is_binary(user), do: named!(source, secret)
  defp credentials!(_), do: bad!(allowed_credentials())

  defp named!({:env, name}, secret) when is_binary(name), do: secret
  defp named!(fun, secret) when is_function(fun, 0), do: secret
  defp named!(_, _), do: bad!(allowed_credentials())

  defp allowed_credentials do
    ":credentials is {:file, path}, {:token, source}, {:nkey, source} or {:user, name, source}, where the source is " <>
      "{:env, \"NAME\"} or a function without arguments that returns the secret. The secret itself would end up in crash reports"
  end

  defp integer!(opts, key, default, range) do
    value = Keyword.get(opts, key, default)

    if is_integer(value) and value in range,
      do: value,
      else: bad!("#{inspect(key)} is an integer in #{inspect(range)}, got: #{inspect(value, limit: 5)}")
  end

  defp boolean!(opts, key) do
    value = Keyword.get(opts, key, false)
    if is_boolean(value), do: value, else: bad!("#{inspect(key)} is true or false, got: #{inspect(value, limit: 5)}")
  end

  @spec bad!(String.t()) :: no_return()
  defp bad!(text), do: raise(ArgumentError, "invalid value for :engine: #{text}")
end
