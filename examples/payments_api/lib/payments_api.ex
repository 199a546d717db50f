defmodule PaymentsApi do
  @moduledoc """
  A payments API on PaymentQueue: the supervision tree.

      PaymentsApi
      ├── PaymentsApi.Books                the tables: ledger, routes, log of attempts
      ├── PaymentsApi.Gateway (default)    simulated payment processors
      ├── PaymentsApi.Gateway (fallback)
      ├── PaymentQueue                     the queue and its workers, which run PaymentsApi.Payer
      └── PaymentsApi.Http                 mochiweb, which calls PaymentsApi.Router

  The order matters: the server starts last and stops first, so nothing is accepted that could not be handled.
  One instance per VM: tables and counters are found by name, because a handler gets the payment and nothing else.
  """

  use Supervisor

  alias PaymentsApi.{Books, Breaker, Gateway, Http}

  @gateways [
    [
      processor: :default,
      latency: 1..3,
      error_rate: 0.005,
      lost_answer_rate: 0.0005,
      decline_one_in: 4_000,
      outages: {2_500, 600}
    ],
    [
      processor: :fallback,
      latency: 3..6,
      error_rate: 0.02,
      lost_answer_rate: 0.0005,
      decline_one_in: 4_000,
      outages: nil
    ]
  ]

  @type option ::
          {:queue, module()}
          | {:port, :inet.port_number()}
          | {:capacity, pos_integer()}
          | {:concurrency, pos_integer()}
          | {:gateways, [keyword()]}

  @doc """
  Options: `queue:` (default `PaymentsApi.Queue.Native`), `port:` (default a free one), `capacity:` (10_000),
  `concurrency:` (32 workers), `gateways:` (options of `PaymentsApi.Gateway`, one list for each).
  """
  @spec start_link([option()]) :: Supervisor.on_start()
  def start_link(opts \\ []), do: Supervisor.start_link(__MODULE__, opts, name: __MODULE__)

  @impl true
  def init(opts) do
    opts =
      Keyword.validate!(opts,
        queue: PaymentsApi.Queue.Native,
        port: 0,
        capacity: 10_000,
        concurrency: 32,
        gateways: @gateways
      )

    Breaker.reset()

    children =
      [Books] ++
        Enum.map(opts[:gateways], &{Gateway, &1}) ++
        [{opts[:queue], Keyword.take(opts, [:capacity, :concurrency])}, {Http, Keyword.take(opts, [:queue, :port])}]

    Supervisor.init(children, strategy: :rest_for_one)
  end
end
