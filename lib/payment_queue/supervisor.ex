defmodule PaymentQueue.Supervisor do
  @moduledoc false
  # One tree per queue. The queue itself lives in the NIF and outlives the tree: starting the tree creates the queue or
  # finds it again, an orderly stop closes it, a kill leaves it as it is.
  #
  #     PaymentQueue.Supervisor (one_for_one, registered per queue)
  #     ├── Durable.Flusher         only on disk; waits for the last writes (first in, so last out)
  #     ├── Workers.Pool            only with a handler; starts, counts, replaces and stops the workers
  #     │   └── DynamicSupervisor
  #     │       ├── Workers.Worker  one process: takes, runs the handler, settles
  #     │       └── ...
  #     ├── Telemetry.Poller        only where :telemetry is loaded; emits the depth
  #     └── Workers.Gate            closes the queue when the tree is shut down (last in, so first out)

  use Supervisor

  alias PaymentQueue.{Durable, Native, Nats, Options}
  alias PaymentQueue.Telemetry.{Events, Poller}
  alias PaymentQueue.Workers.{Gate, Pool}

  @spec start_link(map()) :: Supervisor.on_start()
  def start_link(config), do: Supervisor.start_link(__MODULE__, config, name: name(config.name))

  @impl true
  def init(config) do
    Events.detect()

    case open(config) do
      {:error, reason} -> exit(reason)
      state when state in [:created, :found] -> Supervisor.init(children(config), strategy: :one_for_one)
    end
  end

  # A queue stays where it was first opened, as long as the VM lives.
  defp open(%{engine: nil} = config) do
    if Nats.queue?(config.name),
      do: {:error, {:engine, "the queue runs in this VM with the engine :nats"}},
      else: open_here(config)
  end

  defp open(config) do
    if is_atom(Native.state(config.name)),
      do: {:error, {:engine, "the queue runs in this VM without an engine"}},
      else: Nats.open(config)
  end

  defp open_here(%{durability: :none} = config), do: Native.open(config.name, Options.settings(config))
  defp open_here(config), do: Durable.open(config)

  defp children(config), do: flusher(config) ++ pool_of(config) ++ poller(config) ++ [{Gate, config}]

  defp flusher(%{durability: :none}), do: []
  defp flusher(config), do: [{Durable.Flusher, config}]

  defp pool_of(%{handler: nil}), do: []
  defp pool_of(config), do: [{Pool, config}]

  defp poller(%{telemetry: %{interval: :infinity}}), do: []
  defp poller(config), do: if(Events.enabled?(), do: [{Poller, config}], else: [])

  @doc "The registered name of a queue's tree. Exact, so that `:Foo` and `Foo` are two queues."
  @spec name(atom()) :: atom()
  def name(queue), do: :"#{inspect(__MODULE__)}.#{queue}"

  @doc "The pool of a queue, or nil without workers."
  @spec pool(atom()) :: pid() | nil
  def pool(queue), do: child(queue, Pool)

  @doc "How long a drain of the queue may take."
  @spec shutdown(atom()) :: timeout()
  def shutdown(queue) do
    case config(queue) do
      %{shutdown: shutdown} -> shutdown
      nil -> Options.start!([]).shutdown
    end
  end

  @doc "The configuration that the tree was started with, or nil if none is running."
  @spec config(atom()) :: map() | nil
  def config(queue) do
    with pid when is_pid(pid) <- child(queue, Gate), do: Gate.config(pid)
  catch
    :exit, _ -> nil
  end

  # By way of the supervisor rather than by names of their own: after a kill of the tree, its workers may still be
  # finishing, and must not stand in the way of the new tree.
  defp child(queue, module), do: child_of(name(queue), module)

  @doc "The child of a supervisor that is this module, or nil if there is none."
  @spec child_of(atom(), module()) :: pid() | nil
  def child_of(supervisor, module) do
    with pid when is_pid(pid) <- Process.whereis(supervisor) do
      Enum.find_value(Supervisor.which_children(pid), fn
        {^module, child, _, _} when is_pid(child) -> child
        _ -> nil
      end)
    end
  catch
    # The tree is going down.
    :exit, _ -> nil
  end

  @doc "Stops the tree of a queue, if there is one, in an orderly way."
  @spec stop(atom()) :: :ok
  def stop(queue) do
    Supervisor.stop(name(queue), :shutdown)
  catch
    :exit, _ -> :ok
  end

  @doc "Milliseconds that a supervisor gives a child which itself waits for `shutdown`."
  @spec grace(timeout()) :: timeout()
  def grace(:infinity), do: :infinity
  def grace(shutdown), do: min(shutdown + 5_000, Options.max_ms())
end
