defmodule PaymentQueue.Handler do
  @moduledoc """
  What workers do with an item.

      defmodule MyApp.PayGateway do
        @behaviour PaymentQueue.Handler

        @impl true
        def handle(%{correlation_id: id, amount: amount}) do
          case MyApp.Gateway.pay(id, amount) do
            {:ok, _receipt} -> :ok
            {:error, :unknown_account} -> {:cancel, :unknown_account}
            {:error, {:busy, ms}} -> {:snooze, ms}
            {:error, reason} -> {:error, reason}
          end
        end
      end

  The option `handler:` of `PaymentQueue.start_link/1` takes such a module, a `{module, function, args}` triple (called
  as `apply(module, function, [payload | args])`), or a function of the payload. With `batch: [size: n, ...]` above 1 the
  payload is a list of payloads.

  | returned | the item |
  |---|---|
  | `:ok`, `{:ok, _}` | is settled |
  | `{:error, reason}` | is tried again after the backoff; after `max_attempts` it is a dead letter |
  | `{:cancel, reason}` | is a dead letter now |
  | `{:snooze, ms}` | comes back after `ms`; no attempt is used |
  | a raise, throw or exit | as `{:error, {kind, reason, stacktrace}}`, `kind` being `:error`, `:throw` or `:exit` |
  | anything else | as `{:error, {:bad_return, value}}` |

  A batch handler may also return a list with one such value for each payload, in their order; any other value goes for
  all of them.

  "Tried again" means at the head of the queue, before fresh items. Which delivery it is, is not told to the handler; the
  guide [Handlers and retries](handlers-and-retries.md) says what to do about payments that may have been made already.

  The handler runs in the worker that holds the item, so an item is back in the queue as soon as nobody can be working
  on it any more. The worker traps exits: a linked task that crashes does not take the handler down with it, and a
  shutdown waits for the handler. Messages that a handler leaves in the mailbox are dropped.
  """

  alias PaymentQueue.{Options, Reason}

  @type result :: :ok | {:ok, term()} | {:error, term()} | {:cancel, term()} | {:snooze, non_neg_integer()}

  @doc "Handles one payload, or a list of them with `batch: [size: n]` above 1."
  @callback handle(payload :: term()) :: result() | [result()]

  @typedoc "What becomes of one item."
  @type outcome :: :ok | {:retry, term()} | {:reject, term()} | {:snooze, non_neg_integer()}

  @allowed "a module with handle/1 (see PaymentQueue.Handler), {module, function, args} or a function of one argument"

  @doc false
  @spec new(term()) :: {:ok, (term() -> term())} | {:error, String.t()}
  def new(fun) when is_function(fun, 1), do: {:ok, fun}
  def new({m, f, args}) when is_atom(m) and is_atom(f) and is_list(args), do: exported(m, f, args)
  def new(module) when is_atom(module), do: exported(module, :handle, [])
  def new(_), do: {:error, @allowed}

  # Checked at the start: a misspelt handler should not show as a queue full of dead letters.
  defp exported(module, function, args) do
    arity = length(args) + 1

    cond do
      not Code.ensure_loaded?(module) ->
        {:error, @allowed <> " (the module #{inspect(module)} is not available)"}

      not function_exported?(module, function, arity) ->
        {:error, @allowed <> " (#{Exception.format_mfa(module, function, arity)} is not exported)"}

      args == [] ->
        {:ok, Function.capture(module, function, 1)}

      true ->
        {:ok, fn payload -> apply(module, function, [payload | args]) end}
    end
  end

  @doc false
  @spec run((term() -> term()), term()) :: outcome()
  def run(fun, payload) do
    classify(fun.(payload))
  catch
    kind, reason -> caught(kind, reason, __STACKTRACE__)
  end

  @doc false
  @spec run_batch((term() -> term()), [term()]) :: [outcome()]
  def run_batch(fun, payloads) do
    n = length(payloads)

    case fun.(payloads) do
      results when is_list(results) and length(results) == n -> Enum.map(results, &classify/1)
      result -> List.duplicate(classify(result), n)
    end
  catch
    kind, reason -> List.duplicate(caught(kind, reason, __STACKTRACE__), length(payloads))
  end

  defp classify(:ok), do: :ok
  defp classify({:ok, _}), do: :ok
  defp classify({:error, reason}), do: {:retry, reason}
  defp classify({:cancel, reason}), do: {:reject, reason}

  defp classify({:snooze, ms} = value) do
    if is_integer(ms) and ms >= 0 and ms <= Options.max_ms(), do: value, else: {:retry, {:bad_return, value}}
  end

  defp classify(value), do: {:retry, {:bad_return, value}}

  defp caught(:error, reason, stack),
    do: {:retry, {:error, Exception.normalize(:error, reason, stack), Reason.stack(stack)}}

  defp caught(kind, reason, stack), do: {:retry, {kind, reason, Reason.stack(stack)}}
end
