defmodule PaymentQueue.Migration.Legacy do
  @moduledoc """
  What `PaymentQueue.Migration` needs of the queue that is replaced.

  Most queues have it already, and then their module is passed as it is: `legacy: MyApp.PaymentQueue`.

  | function | needed for | returns |
  |---|---|---|
  | `enqueue/1` | everything | `:ok`, `{:ok, _}` or `true`: accepted. `{:error, reason}`, `:error` or `false`: refused |
  | `stats/0` | reports, `/health` | a map with `:queue_size` and perhaps `:in_flight`, or the size alone |
  | `take/0` or `dequeue/0` | `PaymentQueue.Migration.drain_legacy/1` | `{:ok, payload}`, `{:ok, payload, _}` or `:empty` |

  Where a queue speaks differently, write the few lines that translate, as a module with this behaviour:

      defmodule MyApp.OldQueue do
        @behaviour PaymentQueue.Migration.Legacy

        @impl true
        def enqueue(payload), do: MyApp.Payments.push(payload)

        @impl true
        def stats, do: %{queue_size: MyApp.Payments.length()}

        @impl true
        def take do
          case MyApp.Payments.pop() do
            nil -> :empty
            payload -> {:ok, payload}
          end
        end
      end

  `PaymentQueue.Migration.GenServerAdapter` and `PaymentQueue.Migration.EtsAdapter` are such modules for the two kinds of
  queue that are replaced most often.

  `take/0` has to remove the item for good: the drain runs beside the old workers, and both must never get the same one. Let
  it wait as long as it takes: a `GenServer.call/3` that gives up after five seconds leaves a reply behind which nobody
  reads, and with it a payment. An answer that is not in the table ends the drain and is logged: it may be an item, which
  then is nowhere else.
  """

  require Logger

  @callback enqueue(payload :: term()) :: term()
  @callback stats() :: %{required(:queue_size) => non_neg_integer(), optional(atom()) => term()} | non_neg_integer()
  @callback take() :: {:ok, term()} | {:ok, term(), term()} | :empty
  @callback dequeue() :: {:ok, term()} | {:ok, term(), term()} | :empty
  @optional_callbacks take: 0, dequeue: 0

  @doc false
  # The module and the name of its function that takes, or an `ArgumentError`.
  @spec check!(term()) :: {module(), :take | :dequeue | nil}
  def check!(module) do
    unless is_atom(module) and Code.ensure_loaded?(module),
      do: invalid!(module, "a module that is loaded, with enqueue/1 and stats/0")

    for {function, arity} <- [enqueue: 1, stats: 0], not function_exported?(module, function, arity) do
      invalid!(module, "a module with enqueue/1 and stats/0; #{inspect(module)}.#{function}/#{arity} is not exported")
    end

    {module, Enum.find([:take, :dequeue], &function_exported?(module, &1, 0))}
  end

  @spec invalid!(term(), String.t()) :: no_return()
  defp invalid!(value, allowed) do
    raise ArgumentError,
          "invalid value for :legacy: #{inspect(value, limit: 5)}; allowed: #{allowed} (see PaymentQueue.Migration.Legacy)"
  end

  @doc false
  # For the options of the adapters.
  @spec check_option!(keyword(), atom(), (term() -> boolean()), String.t()) :: :ok
  def check_option!(opts, option, valid?, allowed) do
    unless valid?.(opts[option]) do
      raise ArgumentError, "invalid value for #{inspect(option)}: #{inspect(opts[option])}; allowed: #{allowed}"
    end

    :ok
  end

  @doc false
  # Uniform, so that callers have one contract from the first phase on.
  @spec answer(term()) :: {:accepted, :ok} | {:refused | :error, {:error, term()}}
  def answer(:ok), do: {:accepted, :ok}
  def answer({:ok, _}), do: {:accepted, :ok}
  def answer(true), do: {:accepted, :ok}
  def answer({:error, _} = error), do: {:refused, error}
  def answer(refusal) when refusal in [:error, false], do: {:refused, {:error, :refused}}
  def answer(other), do: {:error, {:error, {:bad_return, other}}}

  @doc false
  @spec stats(module()) :: {:ok, %{queue_size: non_neg_integer(), in_flight: non_neg_integer()}} | {:error, term()}
  def stats(module) do
    case module.stats() do
      %{queue_size: size, in_flight: in_flight} when is_integer(size) and is_integer(in_flight) ->
        {:ok, %{queue_size: max(size, 0), in_flight: max(in_flight, 0)}}

      %{queue_size: size} = stats when is_integer(size) and not is_map_key(stats, :in_flight) ->
        {:ok, %{queue_size: max(size, 0), in_flight: 0}}

      size when is_integer(size) ->
        {:ok, %{queue_size: max(size, 0), in_flight: 0}}

      other ->
        {:error, {:bad_return, other}}
    end
  catch
    kind, reason -> {:error, {kind, reason}}
  end

  @doc false
  @spec take(module(), :take | :dequeue) :: {:ok, term()} | :empty | {:error, term()}
  def take(module, function) do
    case apply(module, function, []) do
      {:ok, payload} -> {:ok, payload}
      {:ok, payload, _} -> {:ok, payload}
      :empty -> :empty
      other -> bad_return(module, function, other)
    end
  catch
    kind, reason -> {:error, {kind, reason}}
  end

  # It may be an item, and who waits for the answer may be gone: then it would be seen nowhere.
  defp bad_return(module, function, value) do
    Logger.error(
      "PaymentQueue.Migration: #{inspect(module)}.#{function}/0 returned #{inspect(value)}, which is neither an item nor " <>
        ":empty (see PaymentQueue.Migration.Legacy); the drain stops. If it is an item, it is in no queue"
    )

    {:error, {:bad_return, value}}
  end

  @doc false
  # For an item that came from there: whether it is back.
  @spec put_back(module(), term()) :: boolean()
  def put_back(module, payload) do
    match?({:accepted, _}, answer(module.enqueue(payload)))
  catch
    _, _ -> false
  end
end
