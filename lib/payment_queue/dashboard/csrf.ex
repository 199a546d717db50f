defmodule PaymentQueue.Dashboard.Csrf do
  @moduledoc false
  # A signed double submit: the page carries a token that fits the cookie it came with, and each operation must bring both.
  # Another site can have the browser send the cookie, but can't read the page; and whoever can plant a cookie can't sign it.
  # The key is this VM's alone, made when first needed: a token of another node, or of before a restart, is refused,
  # and rightly, for the queues that the page showed are not here.

  @key {__MODULE__, :key}
  @bytes 18

  @cookie "payment_queue_csrf"

  @doc "The cookie's name."
  @spec cookie() :: String.t()
  def cookie, do: @cookie

  @doc """
  The value of the cookie and the token that fits it. A value that the browser has already is kept, so that two pages in one
  browser don't spoil each other's token.
  """
  @spec issue(String.t() | nil) :: {String.t(), String.t()}
  def issue(present) do
    value = if well_formed?(present), do: present, else: random()
    {value, sign(value)}
  end

  @doc "Whether the token fits the cookie. Takes as long for a wrong one as for a right one."
  @spec valid?(String.t() | nil, String.t() | nil) :: boolean()
  def valid?(value, token) do
    well_formed?(value) and is_binary(token) and
      :crypto.hash_equals(digest(sign(value)), digest(token))
  end

  # Equal lengths, which the comparison wants.
  defp digest(text), do: :crypto.hash(:sha256, text)

  defp sign(value), do: Base.url_encode64(:crypto.mac(:hmac, :sha256, key(), value), padding: false)

  defp well_formed?(value),
    do: is_binary(value) and match?({:ok, <<_::binary-size(@bytes)>>}, Base.url_decode64(value))

  # 18 bytes are 24 characters, without padding.
  defp random, do: Base.url_encode64(:crypto.strong_rand_bytes(@bytes))

  defp key do
    case :persistent_term.get(@key, nil) do
      nil -> make_key()
      key -> key
    end
  end

  # One of several that come at the same time wins, and all use the winner's.
  defp make_key do
    :global.trans(
      {@key, self()},
      fn ->
        unless :persistent_term.get(@key, nil), do: :persistent_term.put(@key, :crypto.strong_rand_bytes(32))
      end,
      [node()]
    )

    :persistent_term.get(@key)
  end
end
