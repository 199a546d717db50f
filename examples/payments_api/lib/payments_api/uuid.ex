defmodule PaymentsApi.UUID do
  @moduledoc """
  UUIDs as 16 bytes.

  The bytes are the payment's idempotency key. They are the same whatever the letter case of the text was, they are
  half its size, and being a copy they don't keep the request body that the text came from in memory.
  """

  @type t :: <<_::128>>

  @doc "Reads `8-4-4-4-12` hexadecimal digits."
  @spec parse(term()) :: {:ok, t()} | :error
  def parse(<<a::binary-8, ?-, b::binary-4, ?-, c::binary-4, ?-, d::binary-4, ?-, e::binary-12>>) do
    Base.decode16(<<a::binary, b::binary, c::binary, d::binary, e::binary>>, case: :mixed)
  end

  def parse(_other), do: :error

  @doc "The text of the bytes, in lower case."
  @spec format(t()) :: String.t()
  def format(<<a::binary-4, b::binary-2, c::binary-2, d::binary-2, e::binary-6>>) do
    Enum.map_join([a, b, c, d, e], "-", &Base.encode16(&1, case: :lower))
  end

  @doc "A random one (version 4)."
  @spec random() :: t()
  def random do
    <<a::48, _::4, b::12, _::2, c::62>> = :crypto.strong_rand_bytes(16)
    <<a::48, 4::4, b::12, 2::2, c::62>>
  end
end
