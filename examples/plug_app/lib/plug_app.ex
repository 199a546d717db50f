defmodule PlugApp do
  @moduledoc """
  A payments API on Plug and Bandit that moves from a GenServer queue to PaymentQueue.

  It exists in three forms, and the migration is the difference between them:

  | stage | module | |
  |---|---|---|
  | `"before"` | `PlugApp.Before` | the GenServer queue and its workers |
  | `"migrating"` | `PlugApp.Migrating` | both queues, and `PaymentQueue.Migration` in between |
  | `"after"` | `PlugApp.After` | PaymentQueue alone |

  The rest is the same in all three: `PlugApp.Router` takes payments, `PlugApp.Payer` charges them at `PlugApp.Bank`.
  """

  use Supervisor

  @stages %{"before" => PlugApp.Before, "migrating" => PlugApp.Migrating, "after" => PlugApp.After}

  @doc """
  Options: `stage:` (see above), `port:` (default 0, a free one), `operator_token:` (without it the operator's endpoints
  do not exist).
  """
  @spec start_link(keyword()) :: Supervisor.on_start()
  def start_link(opts), do: Supervisor.start_link(__MODULE__, opts, name: __MODULE__)

  @impl true
  def init(opts) do
    stage = Map.fetch!(@stages, Keyword.fetch!(opts, :stage))
    router = {PlugApp.Router, queue: stage, operator_token: opts[:operator_token]}

    server =
      Supervisor.child_spec(
        {Bandit, plug: router, ip: :loopback, port: Keyword.get(opts, :port, 0), startup_log: false},
        id: PlugApp.Server
      )

    # The server last: nothing is accepted that could not be handled, and on the way down it stops first.
    Supervisor.init([PlugApp.Bank] ++ stage.children() ++ [server], strategy: :rest_for_one)
  end

  @doc "The port that the server listens on."
  @spec port() :: :inet.port_number()
  def port do
    {_, server, _, _} = __MODULE__ |> Supervisor.which_children() |> List.keyfind(PlugApp.Server, 0)
    {:ok, {_address, port}} = ThousandIsland.listener_info(server)
    port
  end
end
