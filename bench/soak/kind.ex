defmodule PaymentQueue.Soak.Kind do
  @moduledoc """
  A kind of queue that the soak runs: how it is started, what its items ask for, and who drains it. All kinds run at the
  same time, each under a queue and a ledger of its own.
  """

  @enforce_keys [:name, :about]
  defstruct [:name, :about, place: :memory, start: [], items: [], consumers: :workers, needs: nil]

  @typedoc """
  * `place`: where its items are
  * `start`: options of `PaymentQueue.start_link/1` on top of `base/0`
  * `items`: options of `PaymentQueue.enqueue/2` that callers give a random value; see `PaymentQueue.Soak.Caller`
  * `consumers`: the queue's own workers, processes that take, or a GenStage consumer
  * `needs`: without what the kind cannot run here: a module, or a server of NATS
  """
  @type t :: %__MODULE__{
          name: atom(),
          about: String.t(),
          place: :memory | :disk | :nats,
          start: keyword(),
          items: [:delay | :priority | :key | :partition],
          consumers: :workers | :pullers | :stage,
          needs: module() | :nats_server | nil
        }

  # Small enough that queues get full, that items use up their attempts, and that dead letters overflow.
  @base [
    capacity: 1_500,
    max_bytes: 16 * 1_048_576,
    max_payload_bytes: 1_048_576,
    max_attempts: 6,
    max_dead: 400,
    concurrency: 6,
    handler_timeout: 300,
    backoff: [min: 1, max: 50],
    shutdown: 2_000
  ]

  @doc "The options that all kinds start with."
  @spec base() :: keyword()
  def base, do: @base

  # One that is added here is run, checked and reported like the others. An option of items that is new needs its random value
  # in `PaymentQueue.Soak.Caller`.
  @doc "All kinds."
  @spec all() :: [t()]
  def all do
    [
      %__MODULE__{name: :plain, about: "in memory, few dead letters kept", start: [max_dead: 20]},
      %__MODULE__{name: :batch, about: "batches of 16", start: [batch: [size: 16, wait: 5]]},
      %__MODULE__{name: :priority, about: "4 priorities", start: [priorities: 4], items: [:priority]},
      %__MODULE__{name: :unique, about: "keys, unique for 20 ms", start: [unique_for: 20], items: [:key]},
      %__MODULE__{name: :partitioned, about: "5 partitions for each caller", items: [:partition]},
      %__MODULE__{name: :rate, about: "300 deliveries in 100 ms", start: [rate_limit: {300, 100}]},
      %__MODULE__{
        name: :delayed,
        about: "delays, long backoffs",
        start: [backoff: [min: 20, max: 400]],
        items: [:delay]
      },
      %__MODULE__{
        name: :async,
        about: "on disk, written behind, keys, unique for 20 ms",
        place: :disk,
        start: [durability: :async, unique_for: 20],
        items: [:delay, :key]
      },
      %__MODULE__{
        name: :sync,
        about: "on disk before :ok",
        place: :disk,
        start: [durability: :sync],
        items: [:delay]
      },
      %__MODULE__{
        name: :sync_partitioned,
        about: "on disk before :ok, 5 partitions for each caller",
        place: :disk,
        start: [durability: :sync],
        items: [:partition]
      },
      %__MODULE__{name: :pulled, about: "parked takers, late acks", consumers: :pullers, items: [:delay]},
      %__MODULE__{name: :staged, about: "a GenStage consumer", consumers: :stage, needs: GenStage},
      %__MODULE__{name: :nats, about: "in a NATS server", place: :nats, items: [:delay], needs: :nats_server},
      %__MODULE__{
        name: :nats_pulled,
        about: "in a NATS server, parked takers, late acks",
        place: :nats,
        consumers: :pullers,
        items: [:delay],
        needs: :nats_server
      }
    ]
  end

  @doc "Why the kind cannot run here, if it cannot."
  @spec missing(t()) :: String.t() | nil
  def missing(%{needs: nil}), do: nil

  def missing(%{needs: :nats_server}) do
    cond do
      PaymentQueue.NatsServer.program() == nil ->
        "there is no nats-server 2.10.27 or newer (NATS_SERVER names one)"

      not Code.ensure_loaded?(PaymentQueue.Nats.Native) ->
        "the engine :nats was not built (PAYMENT_QUEUE_ENGINES=nats builds it)"

      true ->
        nil
    end
  end

  def missing(%{needs: module}) do
    unless Code.ensure_loaded?(module), do: "#{inspect(module)} is not on the code path"
  end

  @doc "All options that a queue of this kind starts with, but for its name, its handler and its directory."
  @spec options(t()) :: keyword()
  def options(%{consumers: :workers} = kind), do: Keyword.merge(@base, kind.start)
  def options(kind), do: @base |> Keyword.drop([:concurrency, :handler_timeout]) |> Keyword.merge(kind.start)

  @doc "One of `options/1`."
  @spec option(t(), atom(), term()) :: term()
  def option(kind, key, default \\ nil), do: kind |> options() |> Keyword.get(key, default)

  @doc "Items that one consumer may hold at the same time."
  @spec batch(t()) :: pos_integer()
  def batch(kind), do: Keyword.get(option(kind, :batch, []), :size, 1)
end
