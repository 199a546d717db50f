defmodule PaymentQueue.Nats.Payload do
  @moduledoc false
  # Terms over the wire. Another node wrote them: atoms that this VM does not know are not made, so that nobody who may publish
  # can fill the atom table. Such an item fails and may succeed on a node that knows them.

  require Logger

  alias PaymentQueue.{Nats, Reason}

  @retry_ms 1_000

  @spec encode(term()) :: Nats.Native.item()
  def encode(payload) when is_binary(payload), do: {payload, false, nil}
  def encode(payload), do: {:erlang.term_to_binary(payload), true, nil}

  @doc "The payload of a delivery; what cannot be read is given back, its attempt used up."
  @spec open(Nats.lease(), Nats.Native.payload()) :: {:ok, term()} | :undecodable
  def open(_lease, {:binary, bytes}), do: {:ok, bytes}

  def open(lease, {:term, bytes}) do
    with :undecodable <- decode(bytes) do
      Logger.error(
        "PaymentQueue: an item in NATS is no term, or has atoms that this VM does not know; tried again later"
      )

      _ = Nats.retry(lease, @retry_ms, Reason.encode(:undecodable))
      :undecodable
    end
  end

  @doc "For looking: the term, or `{:undecodable, bytes}`."
  @spec show(Nats.Native.payload()) :: term()
  def show({:binary, bytes}), do: bytes

  def show({:term, bytes}) do
    case decode(bytes) do
      {:ok, term} -> term
      :undecodable -> {:undecodable, bytes}
    end
  end

  # Compressed: never written here, and a thousand times as long once it is a term.
  defp decode(<<131, 80, _::binary>>), do: :undecodable

  defp decode(bytes) do
    {:ok, :erlang.binary_to_term(bytes, [:safe])}
  rescue
    ArgumentError -> :undecodable
  end

  @doc "A reason's bytes, made safe to decode."
  @spec reason(binary()) :: binary()
  def reason(bytes), do: :erlang.term_to_binary(show({:term, bytes}))
end
