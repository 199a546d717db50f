defmodule PaymentQueue.Migration.GenServerAdapter do
  @moduledoc """
  Makes a `PaymentQueue.Migration.Legacy` of a queue that is a process and has no module of functions around it, or other ones.

      defmodule MyApp.OldQueue do
        use PaymentQueue.Migration.GenServerAdapter,
          server: MyApp.PaymentServer,
          enqueue: {:cast, :enqueue},
          stats: {:call, :stats},
          take: {:call, :dequeue}
      end

  | option | |
  |---|---|
  | `server:` | the process, as for `GenServer.call/3` |
  | `enqueue:` | `{:cast, tag}` or `{:call, tag}`: how `{tag, payload}` is sent |
  | `stats:` | `{:call, message}`; the answer is a map with `:queue_size`, or the size |
  | `take:` | `{:call, message}` that removes the oldest item; without it there is no `drain_legacy/1` |

  `take:` knows the answers `{:ok, payload}`, `{:ok, payload, _}`, `{:value, payload}` for an item and `:empty`, `nil`,
  `{:error, :empty}` for none. Nothing is guessed: a message that the process does not know would crash it, and its
  items with it.

  An `enqueue` by cast to a process that is not there is refused with `{:error, :queue_unavailable}`, where the cast alone
  would say `:ok`. A process that dies a moment later still takes the item with it; a cast cannot tell. Taking waits without
  a timeout, because a reply that comes too late would be a lost payment.

  Each of the functions can be overridden in the module.
  """

  alias PaymentQueue.Migration.Legacy

  @enforce_keys [:server, :enqueue, :stats]
  defstruct [:server, :enqueue, :stats, :take]

  @type t :: %__MODULE__{
          server: GenServer.server(),
          enqueue: {:cast | :call, atom()},
          stats: {:call, term()},
          take: {:call, term()} | nil
        }

  @doc false
  defmacro __using__(opts) do
    quote location: :keep do
      @behaviour PaymentQueue.Migration.Legacy
      @adapter PaymentQueue.Migration.GenServerAdapter.new!(unquote(opts))

      @impl true
      def enqueue(payload), do: PaymentQueue.Migration.GenServerAdapter.enqueue(@adapter, payload)

      @impl true
      def stats, do: PaymentQueue.Migration.GenServerAdapter.stats(@adapter)

      defoverridable enqueue: 1, stats: 0

      if @adapter.take do
        @impl true
        def take, do: PaymentQueue.Migration.GenServerAdapter.take(@adapter)

        defoverridable take: 0
      end
    end
  end

  @doc false
  @spec new!(keyword()) :: t()
  def new!(opts) do
    opts = Keyword.validate!(opts, [:server, :enqueue, :stats, :take])
    Legacy.check_option!(opts, :server, &(&1 != nil), "a process, as for GenServer.call/3")

    Legacy.check_option!(
      opts,
      :enqueue,
      &match?({how, tag} when how in [:cast, :call] and is_atom(tag), &1),
      "{:cast | :call, tag}"
    )

    Legacy.check_option!(opts, :stats, &match?({:call, _}, &1), "{:call, message}")
    Legacy.check_option!(opts, :take, &(&1 == nil or match?({:call, _}, &1)), "{:call, message}, or nothing")
    struct!(__MODULE__, opts)
  end

  @doc false
  @spec enqueue(t(), term()) :: term()
  def enqueue(%{server: server, enqueue: {:call, tag}}, payload), do: GenServer.call(server, {tag, payload})

  def enqueue(%{server: server, enqueue: {:cast, tag}}, payload) do
    if GenServer.whereis(server), do: GenServer.cast(server, {tag, payload}), else: {:error, :queue_unavailable}
  end

  @doc false
  @spec stats(t()) :: term()
  def stats(%{server: server, stats: {:call, message}}), do: GenServer.call(server, message)

  @doc false
  @spec take(t()) :: term()
  def take(%{server: server, take: {:call, message}}) do
    case GenServer.call(server, message, :infinity) do
      {:value, payload} -> {:ok, payload}
      none when none in [nil, {:error, :empty}] -> :empty
      other -> other
    end
  end
end
