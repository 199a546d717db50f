defmodule PaymentsApi.Queue do
  @moduledoc """
  The queue behind the API, so that the same API can run over PaymentQueue and over the two queues that it replaces.

  `PaymentsApi.Queue.Native` shows what an application writes; the rest of this behaviour serves the demo's comparison.
  """

  alias PaymentsApi.Payment

  @type refusal :: :queue_full | :queue_closed | :queue_unavailable | :payload_too_large
  @type option :: {:capacity, pos_integer()} | {:concurrency, pos_integer()}

  @doc "The queue and its workers, which call `PaymentsApi.Payer.handle/1`."
  @callback child_spec([option()]) :: Supervisor.child_spec()

  @callback enqueue(Payment.t()) :: :ok | {:error, refusal()}

  @callback stats() :: %{queue_size: non_neg_integer(), in_flight: non_neg_integer()}

  @doc "The processes that handle payments: what the demo kills at random."
  @callback workers() :: [pid()]

  @doc "Accepts nothing more and returns when everything accepted was handled, or `{:error, :timeout}`."
  @callback drain(timeout_ms :: pos_integer()) :: :ok | {:error, :timeout}

  @doc "The payments that are given up."
  @callback dead() :: [Payment.t()]

  @doc """
  The queue's own counters. Where it has them, `:enqueued`, `:settled` and `:dead` are checked against what the API and
  the workers have counted.
  """
  @callback account() :: %{optional(atom()) => non_neg_integer()}

  @doc "The name that PaymentQueue knows the queue by, where it is one of its queues: for metrics and the dashboard."
  @callback name() :: atom()

  @optional_callbacks name: 0

  @implementations %{
    "native" => PaymentsApi.Queue.Native,
    "ets" => PaymentsApi.Queue.Ets,
    "genserver" => PaymentsApi.Queue.GenServer
  }

  @doc "The names for the command line."
  @spec names() :: [String.t()]
  def names, do: ["native", "ets", "genserver"]

  @spec implementation(String.t()) :: module()
  def implementation(name), do: Map.fetch!(@implementations, name)
end
