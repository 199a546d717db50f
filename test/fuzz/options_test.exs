defmodule PaymentQueue.Fuzz.OptionsTest do
  # Options and arguments of every call: accepted, or an ArgumentError that names what was wrong. A running queue keeps its items.
  # Not beside other tests: among the options are leases, which may be those of a queue of theirs.
  use PaymentQueue.QueueCase, async: false

  alias PaymentQueue.Fuzz

  @keys ~w(name queue capacity max_bytes max_payload_bytes max_attempts max_dead rate_limit unique_for priorities handler
    concurrency handler_timeout backoff batch shutdown telemetry durability dir delay priority timeout key ack engine
    order partition n)a

  defp options do
    case Fuzz.below(12) do
      0 -> Fuzz.term()
      1 -> [Fuzz.term(2) | for(_ <- 1..Fuzz.below(2)//1, do: option())]
      _ -> for _ <- 1..Fuzz.below(3)//1, do: option()
    end
  end

  defp option, do: {if(Fuzz.below(10) == 0, do: Enum.random([:capacty, :a, :Queue]), else: Enum.random(@keys)), value()}

  defp value do
    case Fuzz.below(4) do
      0 ->
        Fuzz.term(2)

      1 ->
        Enum.random([nil, 0, 1, -1, 1.0, :infinity, :none, :sync, "", "x", [], {1, 1}, {0, 5}, {5, 1000}, %{}, true])

      2 ->
        Fuzz.number()

      3 ->
        Enum.random([[min: 5, max: 1], [size: 0], [size: 2, wait: 1], [spans: 1], [:a], & &1, fn -> 1 end, {Enum, :map}])
    end
  end

  # A timeout that was drawn must not make the test wait.
  defp brief(options) when is_list(options) do
    Enum.map(options, fn
      {:timeout, n} when n == :infinity or (is_integer(n) and n > 5) -> {:timeout, 5}
      other -> other
    end)
  rescue
    # An improper list.
    FunctionClauseError -> options
  end

  defp brief(options), do: options

  # What the call did, or `:argument_error`. Anything else raised fails the test, with the options in its message.
  defp try_call(name, call, arguments) do
    call.()
  rescue
    error in ArgumentError ->
      assert Exception.message(error) =~ ~r/\S/
      :argument_error

    error ->
      flunk("#{name} of #{inspect(arguments)} raised #{Exception.format(:error, error, __STACKTRACE__)}")
  end

  test "of calls on a queue: an answer or an ArgumentError, and its items are those that were accepted" do
    queue = queue!(capacity: 100)
    empty = queue!()
    {:ok, 3} = PaymentQueue.enqueue_many([1, 2, 3], queue: queue)

    outcomes =
      for _ <- 1..6_000 do
        opts = brief(options())
        put = &if(Keyword.keyword?(opts), do: Keyword.put(opts, :queue, &1), else: opts)
        {on_it, on_none} = {put.(queue), put.(empty)}

        calls = [
          enqueue: fn -> PaymentQueue.enqueue(:fuzz, on_it) end,
          enqueue_many: fn -> PaymentQueue.enqueue_many([:fuzz, :fuzz], on_it) end,
          enqueue_many: fn ->
            PaymentQueue.enqueue_many([:fuzz | Enum.random([[], :improper, Fuzz.terms(3)])], queue: queue)
          end,
          nack: fn -> PaymentQueue.nack({1, 2, 3}, opts) end,
          take: fn -> PaymentQueue.take(on_none) end,
          take_many: fn -> PaymentQueue.take_many(3, on_none) end,
          take_many: fn -> PaymentQueue.take_many(Fuzz.term(1), queue: empty) end,
          dequeue: fn -> PaymentQueue.dequeue(on_none) end,
          peek: fn -> PaymentQueue.peek(Enum.random([Fuzz.term(1), 1]), queue) end,
          dead_letters: fn -> PaymentQueue.dead_letters(queue, Fuzz.term(1)) end,
          requeue_dead: fn -> PaymentQueue.requeue_dead(queue, Fuzz.term(1)) end,
          scale: fn -> PaymentQueue.scale(queue, Fuzz.term(1)) end,
          stats: fn -> PaymentQueue.stats(Fuzz.term(1)) end,
          info: fn -> PaymentQueue.info(Fuzz.term(1)) end,
          flush: fn -> PaymentQueue.flush(queue, opts) end,
          configure: fn -> PaymentQueue.configure(queue, opts) end
        ]

        {name, call} = Enum.random(calls)
        answer = try_call(name, call, opts)
        # A limit that was drawn stays no longer than a call.
        :ok = PaymentQueue.configure(queue, capacity: 100, max_bytes: 1_000_000, max_payload_bytes: 1_000)
        make_room(queue)
        if answer == :argument_error, do: :refused, else: :answered
      end

    counts = Enum.frequencies(outcomes)
    assert counts.refused > 500 and counts.answered > 100
    assert_conserved(queue)
    # The first are still the first, in their order.
    :ok = PaymentQueue.configure(queue, rate_limit: nil)
    assert [{1, _}, {2, _}, {3, _}] = PaymentQueue.take_many(3, queue: queue)
  end

  # Behind the first three, which stay.
  defp make_room(queue) do
    if PaymentQueue.info(queue).scheduled + PaymentQueue.stats(queue).queue_size > 90 do
      PaymentQueue.purge(queue)
      {:ok, 3} = PaymentQueue.enqueue_many([1, 2, 3], queue: queue)
    end
  end

  test "of start_link: a queue or an ArgumentError; one that runs is not touched by a refused start" do
    queue = queue!(capacity: 7, max_attempts: 3)
    :ok = PaymentQueue.enqueue(:kept, queue: queue)
    before = PaymentQueue.info(queue)
    # Nothing that is drawn starts a new queue, of which a VM has but so many, or a directory.
    harmless = fn opts ->
      Enum.reject(opts, &match?({key, _} when key in [:name, :durability, :dir, :telemetry], &1))
    end

    counts =
      for _ <- 1..3_000, reduce: %{refused: 0, found: 0} do
        counts ->
          opts = options()

          opts = if is_list(opts) and Keyword.keyword?(opts), do: [{:name, queue} | harmless.(opts)], else: opts

          case try_call(:start_link, fn -> PaymentQueue.start_link(opts) end, opts) do
            :argument_error -> %{counts | refused: counts.refused + 1}
            {:error, {:already_started, _}} -> %{counts | found: counts.found + 1}
          end
      end

    assert counts.refused > 500 and counts.found > 50
    now = PaymentQueue.info(queue)

    changed =
      for {key, value} <- now, key not in [:oldest_ms, :memory], before[key] != value, do: {key, before[key], value}

    assert changed == []
    assert PaymentQueue.dequeue(queue: queue) |> elem(1) == :kept
  end
end
