defmodule PaymentQueue.Migration.Supervisor do
  @moduledoc false
  # None of this is on the way of an item: `enqueue` works, and the mode can be changed to all but `:shadow`, without it.
  #
  #     PaymentQueue.Migration.Supervisor (one_for_one, registered per migration)
  #     ├── Migration.Drainer       idle until somebody drains
  #     └── PaymentQueue.Supervisor the shadow queue, from the first time in shadow mode

  use Supervisor

  alias PaymentQueue.Migration.{Drainer, Mode, Route, Shadow}

  @spec start_link(map()) :: Supervisor.on_start()
  def start_link(config), do: Supervisor.start_link(__MODULE__, config, name: name(config.name))

  @spec name(atom()) :: atom()
  def name(name), do: :"#{inspect(__MODULE__)}.#{name}"

  @impl true
  def init(config) do
    route = Route.install(config)
    :ok = await_end(PaymentQueue.Supervisor.name(route.shadow))
    shadow = if Mode.route(Route.mode(route)) == :shadow, do: [Shadow.child_spec(route)], else: []
    Supervisor.init([drainer_spec(route) | shadow], strategy: :one_for_one)
  end

  # The drainer puts its item back before it ends, into a queue that may be slow.
  defp drainer_spec(route), do: %{id: Drainer, start: {Drainer, :start_link, [route]}, shutdown: 15_000}

  # After a kill, the tree before this one may still be stopping its shadow queue, which has a name and is closed at the
  # end. To start over it would fail, and after three tries the supervisor above, the application's, would give up.
  defp await_end(name) do
    case Process.whereis(name) do
      nil ->
        :ok

      pid ->
        monitor = Process.monitor(pid)
        receive do: ({:DOWN, ^monitor, :process, ^pid, _} -> :ok)
    end
  end

  @doc "The drainer of a migration, or nil if none is running."
  @spec drainer(atom()) :: pid() | nil
  def drainer(name), do: PaymentQueue.Supervisor.child_of(name(name), Drainer)

  @doc "Makes sure that the shadow queue runs."
  @spec start_shadow(Route.t()) :: :ok | {:error, term()}
  def start_shadow(route) do
    case Supervisor.start_child(name(route.name), Shadow.child_spec(route)) do
      {:ok, _} -> :ok
      {:error, {:already_started, _}} -> :ok
      {:error, reason} -> {:error, reason}
    end
  catch
    :exit, _ -> {:error, :not_running}
  end
end
