defmodule PaymentQueue.Soak.Place do
  @moduledoc "Where the items of a kind of queue are, and what that changes for the soak."

  alias PaymentQueue.NatsServer
  alias PaymentQueue.Soak.Kind

  @typedoc "What has to be there for a queue: a server that only it uses."
  @type server :: map() | nil

  # Bytes that an item on disk counts beside its payload.
  @own_bytes_on_disk 8

  # A server of NATS takes 1 MiB by default, with everything around the payload.
  @nats_payload 4 * 1_048_576

  # A VM that somebody stops for a while is not to be taken for dead.
  @ack_wait_ms 600_000

  @doc "Makes the place, with its files in that directory: what a queue there is started with."
  @spec make(Kind.t(), Path.t()) :: {keyword(), server()}
  def make(%{place: :memory}, _dir), do: {[], nil}
  def make(%{place: :disk}, dir), do: {[dir: dir], nil}

  def make(%{place: :nats, name: name}, dir) do
    config = Path.join(dir, "#{name}.conf")
    File.write!(config, "max_payload: #{@nats_payload}\n")
    server = NatsServer.start(["-c", config])
    {[engine: {:nats, servers: [server.address], replicas: 1, ack_wait: @ack_wait_ms}], server}
  end

  @doc "Ends what `make/2` has started."
  @spec unmake(server()) :: :ok
  def unmake(nil), do: :ok

  def unmake(server) do
    NatsServer.kill(server)
    File.rm_rf!(server.directory)
    :ok
  end

  @doc "Whether a copy of the queue's directory is all of it."
  @spec directory?(Kind.t()) :: boolean()
  def directory?(kind), do: kind.place == :disk

  @doc "Whether a purge leaves alone what is in flight."
  @spec purge_spares_in_flight?(Kind.t()) :: boolean()
  def purge_spares_in_flight?(kind), do: kind.place != :nats

  @doc "The stats of a queue from which nobody has taken: what a node of NATS has fetched ahead still waits."
  @spec untaken(Kind.t(), stats) :: stats when stats: %{queue_size: non_neg_integer(), in_flight: non_neg_integer()}
  def untaken(%{place: :nats}, stats), do: %{queue_size: stats.queue_size + stats.in_flight, in_flight: 0}
  def untaken(_kind, stats), do: stats

  @doc "Bytes that an item counts beside its payload; nil where only the server knows."
  @spec own_bytes(Kind.t()) :: non_neg_integer() | nil
  def own_bytes(%{place: :memory}), do: 0
  def own_bytes(%{place: :disk}), do: @own_bytes_on_disk
  def own_bytes(%{place: :nats}), do: nil
end
