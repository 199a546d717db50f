defmodule PaymentQueue.Payload do
  @moduledoc false
  # The two halves of a payload's way that may take long: they run here, where the VM can preempt them
  # (`term_to_binary/1` and `binary_to_term/1` yield), or on a dirty scheduler, but never inside a short NIF call.

  alias PaymentQueue.Durable.Decoding
  alias PaymentQueue.{Native, Reason}

  require Logger

  @doc "Enqueues what the short NIF call answered `:large` to."
  @spec enqueue_large(atom(), term(), Native.how()) :: :ok | Native.storing() | Native.undecided() | Native.refusal()
  def enqueue_large(queue, payload, how) when is_binary(payload),
    do: Native.enqueue_large(queue, payload, :binary, how)

  def enqueue_large(queue, payload, how),
    do: Native.enqueue_large(queue, :erlang.term_to_binary(payload), :term, how)

  @doc "The payload of a lease that was delivered to a parked taker."
  @spec fetch(Native.lease()) :: {:ok, term()} | {:error, :stale_lease}
  def fetch(lease) do
    case Native.fetch(lease) do
      :large -> fetch_large(lease)
      other -> other
    end
  end

  @doc "The payload of a lease that came as `{:large, lease}`."
  @spec fetch_large(Native.lease()) :: {:ok, term()} | {:error, :stale_lease}
  def fetch_large(lease) do
    case Native.fetch_large(lease) do
      {:error, :stale_lease} = error -> error
      {:stored, bytes} -> fetch_stored(lease, bytes)
      {format, bytes} -> {:ok, decode(format, bytes)}
    end
  end

  # An item that cannot be handed over is kept as a dead letter; for its taker it is as if somebody had settled it.
  defp fetch_stored(lease, bytes) do
    with {:error, why} <- Decoding.decode(bytes) do
      Logger.error("PaymentQueue: an item on disk cannot be decoded (#{why}) and is a dead letter now")
      _ = Native.reject(lease, Reason.encode({:undecodable, why}))
      {:error, :stale_lease}
    end
  end

  @doc "A payload as it was kept, back to the term; `{:undecodable, bytes}` for one from disk that may not be decoded."
  @spec decode(Native.format(), term()) :: term()
  def decode(:binary, bytes), do: bytes
  def decode(:decoded, payload), do: payload
  def decode(:term, bytes), do: :erlang.binary_to_term(bytes)
  def decode(:stored, bytes), do: Decoding.decode!(bytes)
end
