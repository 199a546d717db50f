defmodule PaymentQueue.Testing do
  @moduledoc """
  Helpers for the tests of an application that uses PaymentQueue.

      defmodule MyApp.PaymentsTest do
        use ExUnit.Case, async: true
        import PaymentQueue.Testing

        setup do
          %{queue: start_queue!(handler: MyApp.PayGateway, concurrency: 0)}
        end

        test "a payment is queued, then paid", %{queue: queue} do
          MyApp.Payments.request(%{id: 7, amount: 1990}, queue: queue)

          assert_enqueued(queue: queue, payload: %{id: 7})
          assert %{success: 1, failure: 0} = drain_queue(queue: queue)
          refute_enqueued(queue: queue)
        end
      end

  Queues are global to the VM, so tests that share one cannot run at the same time. `start_queue!/1` and
  `checkout_queue/0` give each test a queue of its own, which works with `async: true`; the code under test has to take
  the queue's name from somewhere (an argument, a setting, the process dictionary).

  With `concurrency: 0` no worker runs and nothing happens behind the test's back: `drain_queue/1` runs the handler in
  the test process.
  """

  alias PaymentQueue.{Backoff, Handler, Operations, Options, Supervisor, Taking}
  alias PaymentQueue.Telemetry.Span
  alias PaymentQueue.Testing.Names
  alias PaymentQueue.Workers.Outcome

  @typedoc "How many runs of a handler ended in which way. `discard`: failed for the last time, now a dead letter."
  @type drained :: %{
          success: non_neg_integer(),
          failure: non_neg_integer(),
          discard: non_neg_integer(),
          cancelled: non_neg_integer(),
          snoozed: non_neg_integer()
        }

  @doc """
  Starts a queue under a name that no other test has and returns the name. Options as for `PaymentQueue.start_link/1`,
  without `name:`.

  When the test process ends, the queue is stopped, emptied, and its name lent to another test. It may come from an
  earlier test itself: it is empty and runs, but the counters of `PaymentQueue.info/1` go on from there.
  """
  @spec start_queue!(keyword()) :: PaymentQueue.queue()
  def start_queue!(opts \\ []) do
    if is_list(opts) and List.keymember?(opts, :name, 0),
      do: raise(ArgumentError, "start_queue!/1 chooses the name; checkout_queue/0 gives one to use with start_link/1")

    name = checkout_queue()
    {:ok, tree} = PaymentQueue.start_link([name: name] ++ opts)
    # The borrowed name is what ties the tree to the test: stopping it must not stop the test.
    Process.unlink(tree)
    name
  end

  @doc """
  Borrows a queue name for the calling process, for tests that start the queue themselves, such as by
  `start_supervised!({PaymentQueue, name: checkout_queue(), handler: MyApp.PayGateway})`.

  Names come from a set of 256, because queues cannot be destroyed; a name returns to it when its borrower dies, in
  whatever way, with its queue stopped and emptied. In an ExUnit test that has happened before the next test starts.
  """
  @spec checkout_queue() :: PaymentQueue.queue()
  def checkout_queue do
    name = Names.checkout()
    return_on_exit(name)
    name
  end

  @doc "Returns a borrowed name before its borrower ends."
  @spec checkin_queue(PaymentQueue.queue()) :: :ok
  def checkin_queue(name), do: Names.checkin(name)

  # Without ExUnit, or outside of a test process, the monitor alone does it. Called by `apply/3`, because ExUnit is no
  # dependency of the library.
  defp return_on_exit(name) do
    if Code.ensure_loaded?(ExUnit.Callbacks),
      do: apply(ExUnit.Callbacks, :on_exit, [{__MODULE__, name}, fn -> Names.checkin(name) end])

    :ok
  rescue
    ArgumentError -> :ok
  end

  @doc """
  Runs the handler for what is in the queue, in the calling process, until nothing can be taken, and counts the outcomes.

    * `queue:` (default `:default`)
    * `handler:` defaults to the queue's own
    * `limit:` the most runs (default `:infinity`)
    * `with_retries:` by default (`false`) an item that fails or snoozes is scheduled as its backoff or snooze says,
      which is later than this call. With `true` it comes back at once and is run again until it succeeds, is cancelled
      or is a dead letter. A handler that always snoozes never ends then; `limit:` bounds it.

  Items that were scheduled before the call stay scheduled: their time is not advanced. A batch handler gets one item
  at a time, as a list of one. Failures are logged as in a worker, and telemetry is emitted as by one.
  """
  @spec drain_queue(keyword()) :: drained()
  def drain_queue(opts \\ []) do
    call = Options.call!(:drain_queue, opts)
    _ = Operations.call(call.queue, :settings)
    config = Supervisor.config(call.queue) || Options.start!([])
    handler = call.handler || config.handler

    unless handler do
      raise ArgumentError, "the queue #{inspect(call.queue)} has no handler: pass one to drain_queue/1 as handler:"
    end

    run = if config.batch.size > 1, do: &hd(Handler.run_batch(handler, [&1])), else: &Handler.run(handler, &1)
    counts = %{success: 0, failure: 0, discard: 0, cancelled: 0, snoozed: 0}
    trace = Span.settings(%{config | name: call.queue})
    drain(call.queue, {run, trace}, if(call.with_retries, do: :now, else: config.backoff), call.limit, counts)
  end

  defp drain(_queue, _run, _backoff, 0, counts), do: counts

  defp drain(queue, run, backoff, limit, counts) do
    case Taking.take(queue, nil, 0) do
      {:ok, payload, lease} ->
        done = run_one(run, queue, payload, lease, backoff)
        drain(queue, run, backoff, less(limit), count(counts, done))

      :empty ->
        counts
    end
  end

  defp run_one({run, trace}, queue, payload, lease, backoff) do
    span = if trace, do: Span.start(trace, [payload], [lease])
    outcome = payload |> run.() |> hasten(backoff)
    span = if span, do: Span.handled(span)
    done = Outcome.settle(outcome, lease, payload, queue, fixed(backoff))
    if span && done != :stale, do: Span.finish(span, [{outcome, done}])
    done
  end

  # Settled by somebody else meanwhile: not ours to count.
  defp count(counts, :stale), do: counts
  defp count(counts, done), do: Map.update!(counts, done, &(&1 + 1))

  defp hasten({:snooze, _}, :now), do: {:snooze, 0}
  defp hasten(outcome, _), do: outcome

  @spec fixed(:now | Backoff.t()) :: 0 | Backoff.t()
  defp fixed(:now), do: 0
  defp fixed(backoff), do: backoff

  defp less(:infinity), do: :infinity
  defp less(limit), do: limit - 1

  @doc "The payloads that wait in a queue, in the order in which they would be taken. Option: `queue:`."
  @spec all_enqueued(keyword()) :: [term()]
  def all_enqueued(opts \\ []) do
    %{queue: queue} = Options.call!(:all_enqueued, opts)
    Operations.peek(queue, PaymentQueue.stats(queue).queue_size)
  end

  @doc """
  Asserts that a waiting payload matches a pattern.

      assert_enqueued(%{id: ^id})
      assert_enqueued(queue: :refunds, payload: %{id: ^id})
      assert_enqueued(queue: :refunds)
  """
  defmacro assert_enqueued(pattern_or_opts) do
    {queue, pattern} = split(pattern_or_opts)

    quote do
      queue = unquote(queue)
      payloads = PaymentQueue.Testing.all_enqueued(queue: queue)

      unless Enum.any?(payloads, &match?(unquote(pattern), &1)) do
        PaymentQueue.Testing.__fail__("no payload matches", unquote(Macro.to_string(pattern)), queue, payloads)
      end

      true
    end
  end

  @doc "Asserts that no waiting payload matches. Takes what `assert_enqueued/1` takes."
  defmacro refute_enqueued(pattern_or_opts) do
    {queue, pattern} = split(pattern_or_opts)

    quote do
      queue = unquote(queue)
      payloads = PaymentQueue.Testing.all_enqueued(queue: queue)

      if Enum.any?(payloads, &match?(unquote(pattern), &1)) do
        PaymentQueue.Testing.__fail__("a payload matches", unquote(Macro.to_string(pattern)), queue, payloads)
      end

      false
    end
  end

  # A literal keyword list of our own keys is options; everything else is a pattern for the payload.
  defp split([_ | _] = opts) do
    if Enum.all?(opts, &match?({key, _} when key in [:queue, :payload], &1)),
      do: {Keyword.get(opts, :queue, :default), Keyword.get(opts, :payload, quote(do: _))},
      else: {:default, opts}
  end

  defp split(pattern), do: {:default, pattern}

  @doc false
  @spec __fail__(String.t(), String.t(), atom(), [term()]) :: no_return()
  def __fail__(what, pattern, queue, payloads) do
    message = """
    #{what} #{pattern} in the queue #{inspect(queue)}, where #{length(payloads)} are waiting:

    #{inspect(payloads, pretty: true, limit: 20)}
    """

    # ExUnit is no dependency of the library, but this is only called by tests.
    raise Module.concat(ExUnit, AssertionError), message: message
  end
end
