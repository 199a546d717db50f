defmodule PaymentQueue.Durable.Decoding do
  @moduledoc false
  # Terms from disk. Another VM wrote them, maybe another version of the application, maybe somebody else: an atom in them
  # may be one that this VM does not have, and a VM never forgets an atom.
  #
  # What has only known atoms is decoded. The rest may bring `config :payment_queue, max_new_atoms: n` new atoms into the VM in
  # all (100_000 unless configured, a tenth of what a VM holds by default): enough for the structs of modules that are not
  # loaded yet. What would bring more is refused.

  alias PaymentQueue.Native

  @max_new_atoms 100_000

  @doc "The term of these bytes, or why it may not be one."
  @spec decode(binary()) :: {:ok, term()} | {:error, :too_many_new_atoms | :no_term}
  # Compressed: never written here, and a thousand times as long once it is a term.
  def decode(<<131, 80, _::binary>>), do: {:error, :no_term}

  def decode(bytes) do
    {:ok, :erlang.binary_to_term(bytes, [:safe])}
  rescue
    ArgumentError -> admit(bytes)
  end

  @doc "As `decode/1`; what may not be decoded as `{:undecodable, bytes}`, for being looked at."
  @spec decode!(binary()) :: term() | {:undecodable, binary()}
  def decode!(bytes) do
    case decode(bytes) do
      {:ok, term} -> term
      {:error, _} -> {:undecodable, bytes}
    end
  end

  defp admit(bytes) do
    case Native.admit_atoms(bytes, Application.get_env(:payment_queue, :max_new_atoms, @max_new_atoms)) do
      :ok -> {:ok, :erlang.binary_to_term(bytes)}
      :too_many_atoms -> {:error, :too_many_new_atoms}
      :error -> {:error, :no_term}
    end
  rescue
    ArgumentError -> {:error, :no_term}
  end
end
