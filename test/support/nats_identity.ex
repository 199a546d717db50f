defmodule PaymentQueue.NatsIdentity do
  @moduledoc false
  # Identities for servers under test, made as NATS's own tools make them: nkeys (Ed25519 keys as text) and JWTs signed with them.

  import Bitwise

  @types %{user: 20 <<< 3, account: 0, operator: 14 <<< 3}
  @seed 18 <<< 3

  @doc "A new nkey: `%{seed: text, public: text}`, and its raw key."
  def nkey(type) do
    {public, secret} = :crypto.generate_key(:eddsa, :ed25519)
    prefix = Map.fetch!(@types, type)
    seed = text(<<bor(@seed, prefix >>> 5), band(prefix, 31) <<< 3, secret::binary>>)
    %{seed: seed, public: text(<<prefix, public::binary>>), secret: secret}
  end

  defp text(bytes), do: Base.encode32(bytes <> <<crc16(bytes)::16-little>>, padding: false)

  defp crc16(bytes),
    do: for(<<byte <- bytes>>, reduce: 0, do: (crc -> Enum.reduce(1..8, bxor(crc, byte <<< 8), &shift/2)))

  defp shift(_bit, crc) do
    shifted = band(crc <<< 1, 0xFFFF)
    if band(crc, 0x8000) == 0, do: shifted, else: bxor(shifted, 0x1021)
  end

  @doc """
  A server's configuration in operator mode, and the text of the `.creds` file of its one user.
  """
  def operator_mode do
    [operator, system, account] = [nkey(:operator), nkey(:account), nkey(:account)]
    user = nkey(:user)

    unlimited =
      Map.new(~w(subs data payload imports exports conn leaf mem_storage disk_storage streams consumer), &{&1, -1})

    limits = %{"limits" => Map.put(unlimited, "wildcards", true)}

    config = """
    operator: #{jwt(operator, operator, %{"type" => "operator"})}
    system_account: #{system.public}
    resolver: MEMORY
    resolver_preload: {
      #{system.public}: #{jwt(operator, system, %{"type" => "account"})}
      #{account.public}: #{jwt(operator, account, Map.put(limits, "type", "account"))}
    }
    """

    claims = %{"type" => "user", "subs" => -1, "data" => -1, "payload" => -1}
    %{config: config, creds: creds(jwt(account, user, claims), user.seed), seed: user.seed}
  end

  defp creds(jwt, seed) do
    """
    -----BEGIN NATS USER JWT-----
    #{jwt}
    ------END NATS USER JWT------

    -----BEGIN USER NKEY SEED-----
    #{seed}
    ------END USER NKEY SEED------
    """
  end

  defp jwt(issuer, subject, nats) do
    claims = %{
      "jti" => Base.encode32(:crypto.strong_rand_bytes(32), padding: false),
      "iat" => System.os_time(:second),
      "iss" => issuer.public,
      "name" => "test",
      "sub" => subject.public,
      "nats" => Map.put(nats, "version", 2)
    }

    signed = part(%{"typ" => "JWT", "alg" => "ed25519-nkey"}) <> "." <> part(claims)
    signature = :crypto.sign(:eddsa, :none, signed, [issuer.secret, :ed25519])
    signed <> "." <> Base.url_encode64(signature, padding: false)
  end

  defp part(map), do: map |> PaymentQueue.JSON.encode!() |> IO.iodata_to_binary() |> Base.url_encode64(padding: false)
end
