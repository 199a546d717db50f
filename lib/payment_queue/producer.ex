defmodule PaymentQueue.Producer do
  @moduledoc """
  A producer for [Broadway](https://hexdocs.pm/broadway) 1.x and [GenStage](https://hexdocs.pm/gen_stage) 1.x.

      defmodule MyApp.Payments do
        use Broadway

        def start_link(_opts) do
          Broadway.start_link(__MODULE__,
            name: __MODULE__,
            producer: [module: {PaymentQueue.Producer, queue: :payments}],
            processors: [default: [concurrency: 10]]
          )
        end

        @impl true
        def handle_message(_processor, message, _context) do
          case MyApp.Gateway.pay(message.data) do
            :ok -> message
            {:error, reason} -> Broadway.Message.failed(message, reason)
          end
        end
      end

  Start the queue before the pipeline, without `handler:`; the pipeline takes the place of its workers:

      children = [
        {PaymentQueue, name: :payments, capacity: 10_000},
        MyApp.Payments
      ]

  Neither Broadway nor GenStage is a dependency of PaymentQueue: this module works where the application has them.
  The guide `guides/broadway.md` has longer examples.

  ## Options

  | option | default | |
  |---|---|---|
  | `queue:` | `:default` | the queue to take from |
  | `on_success:` | `:ack` | what becomes of an item whose message succeeded: `:ack` or `:noop` |
  | `on_failure:` | `:retry` | and of one whose message failed: `:retry`, `{:retry, ms}`, `:reject`, `:ack` or `:noop` |
  | `backoff:` | the queue's own | how long a `:retry` waits, see `PaymentQueue.Backoff` |

  `:retry` tries again after the backoff, `{:retry, ms}` after that time; the last of `max_attempts` makes a dead letter.
  `:reject` makes a dead letter at once. `:ack` settles the item for good. `:noop` leaves it in flight: the code that
  handles the message settles `message.metadata.lease` itself.

  Both can be changed for one message, such as for a payment that will never succeed:

      message
      |> Broadway.Message.configure_ack(on_failure: :reject)
      |> Broadway.Message.failed(:unknown_account)

  An unknown option or value raises `ArgumentError`.

  ## Messages

  `message.data` is the payload. `message.metadata` is `%{queue: name, attempt: n, lease: lease}`.

  ## Demand

  Items are taken when processors ask for them and no sooner; without items the producer is parked in native code and is
  woken by the enqueue. What is taken counts as in flight, so with Broadway's defaults (`max_demand: 10`) up to 10 items for
  each processor are in flight. One process takes for all producers of a pipeline: `concurrency:` of more than 1 in
  `producer:` gains nothing, and what Broadway's `partition_by:` keeps in order, it keeps so only behind one producer. Broadway's
  `rate_limiting:` works as always.

  ## What happens when

    * **a handler raises**: Broadway fails the message, and `on_failure:` says what becomes of the item.
    * **a process of the pipeline is killed**, a processor, batcher, batch processor or producer: nobody can say which messages
      it had. The pipeline is stopped, from its end to its beginning, and started again: running handlers have Broadway's
      `shutdown:` time to finish and are acknowledged, and then what was not acknowledged is back at the head of the queue, its
      attempt used up. No item is handed out while somebody may be working on it. Broadway counts such a restart twice,
      therefore `max_restarts:` is doubled.
    * **the pipeline is stopped**: nothing is taken any more, what was taken is handled, and the rest stays in the queue.
    * **the holder of the items is killed** (the process `MyApp.Payments.Broadway.PaymentQueue`, which runs no code of
      yours): its items are redelivered at once, as everywhere in PaymentQueue, and handlers still running finish in vain. Their
      acknowledgement is refused and logged.

  ## GenStage

  Without Broadway the events are `{payload, lease}`, and whoever consumes them settles the leases:

      {:ok, producer} = PaymentQueue.Producer.start_link(queue: :payments)

      # in a consumer
      def handle_events(events, _from, state) do
        for {payment, lease} <- events do
          :ok = MyApp.Gateway.pay(payment)
          PaymentQueue.ack(lease)
        end

        {:noreply, [], state}
      end

  When a consumer dies, the producer stops with `{:shutdown, {:consumer_down, reason}}`, which gives back whatever was taken
  through it, and GenStage stops its other consumers too. Those finish the events that they are handling while the items
  are back in the queue already: where handling twice is expensive, give each consumer a producer of its own. Put both
  under one supervisor with the strategy `:one_for_all`. The options `on_success:`, `on_failure:` and `backoff:` are for Broadway.
  """

  if Code.ensure_loaded?(GenStage), do: @behaviour(GenStage)
  if Code.ensure_loaded?(Broadway.Producer), do: @behaviour(Broadway.Producer)

  alias PaymentQueue.{Lease, Options}
  alias PaymentQueue.Producer.{Acknowledger, Holder, Tripwire}

  # --- without Broadway ----------------------------------------------------------------------------------------------

  @doc "Starts a GenStage producer: the option `queue:`, and `name:` under which it is registered."
  @spec start_link(keyword()) :: GenServer.on_start()
  def start_link(opts \\ []) do
    {server, opts} = Keyword.split(opts, [:name])
    _ = Options.producer!(opts)
    apply(GenStage, :start_link, [__MODULE__, opts, server])
  end

  @doc "For a supervisor; the id is the `name:` or this module."
  @spec child_spec(keyword()) :: Supervisor.child_spec()
  def child_spec(opts), do: %{id: Keyword.get(opts, :name, __MODULE__), start: {__MODULE__, :start_link, [opts]}}

  # --- Broadway.Producer ---------------------------------------------------------------------------------------------

  @doc false
  @spec prepare_for_start(module(), keyword()) :: {[Supervisor.child_spec() | {module(), term()}], keyword()}
  def prepare_for_start(module, options) do
    {producer, opts} = options[:producer][:module]
    config = Options.producer!(opts)
    holder = process_name(module, options[:name])

    options =
      options
      |> put_in([:producer, :module], {producer, Keyword.put(opts, :holder, holder)})
      # A killed processor counts twice: by its own supervisor's end, and by the tripwire's.
      |> Keyword.update!(:max_restarts, &(2 * &1))

    {[{Tripwire, holder}, {Holder, queue: config.queue, name: holder}], options}
  end

  # As Broadway names its own processes.
  defp process_name(module, pipeline) do
    if function_exported?(module, :process_name, 2),
      do: module.process_name(pipeline, "PaymentQueue"),
      else: :"#{pipeline}.Broadway.PaymentQueue"
  end

  @doc false
  @spec prepare_for_draining(map()) :: {:noreply, [term()], map()}
  def prepare_for_draining(state) do
    :ok = Holder.leave(state.holder)
    # After this Broadway lets the processors go: what waits in our mailbox has to be on its way to them before.
    {:noreply, events(received(), state), %{state | draining?: true}}
  end

  defp received do
    receive do
      {Holder, items} -> items ++ received()
    after
      0 -> []
    end
  end

  # --- GenStage ------------------------------------------------------------------------------------------------------

  @doc false
  @spec init(keyword()) :: {:producer, map(), keyword()}
  def init(opts) do
    {topology, opts} = Keyword.pop(opts, :broadway)
    {holder, opts} = Keyword.pop(opts, :holder)
    config = Options.producer!(opts)

    state = %{
      config: %{config | backoff: config.backoff || backoff(config.queue)},
      holder: holder || start_holder(config.queue),
      message: if(topology, do: struct(Broadway.Message)),
      draining?: false
    }

    # Nothing is taken beyond the demand, so nothing can pile up there; but nothing may be dropped either.
    {:producer, state, buffer_size: :infinity}
  end

  defp start_holder(queue) do
    case Holder.start_link(queue: queue, owner: self()) do
      {:ok, holder} -> holder
      {:error, reason} -> exit(reason)
    end
  end

  defp backoff(queue), do: (PaymentQueue.Supervisor.config(queue) || Options.start!([])).backoff

  @doc false
  @spec handle_demand(pos_integer(), map()) :: {:noreply, [], map()}
  def handle_demand(_n, %{draining?: true} = state), do: {:noreply, [], state}

  def handle_demand(n, state) do
    Holder.demand(state.holder, n)
    {:noreply, [], state}
  end

  @doc false
  @spec handle_info(term(), map()) :: {:noreply, [term()], map()}
  def handle_info({Holder, items}, state), do: {:noreply, events(items, state), state}
  def handle_info(_message, state), do: {:noreply, [], state}

  # Broadway does not pass this on: there the tripwire sees to it.
  @doc false
  @spec handle_cancel(tuple(), GenServer.from(), map()) :: {:noreply, [], map()} | {:stop, term(), map()}
  def handle_cancel({:down, reason}, _from, state), do: {:stop, {:shutdown, {:consumer_down, reason}}, state}
  def handle_cancel({:cancel, _reason}, _from, state), do: {:noreply, [], state}

  defp events(items, %{message: nil}), do: items

  defp events(items, %{message: message, config: config}) do
    for {payload, lease} <- items do
      metadata = %{queue: config.queue, attempt: Lease.attempt(lease), lease: lease}
      %{message | data: payload, metadata: metadata, acknowledger: Acknowledger.new(config, lease)}
    end
  end
end
