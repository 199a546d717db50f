defmodule PaymentQueue.Migration.AdapterTest do
  # Old queues as users have them: a process without functions around it, a table that workers take from by themselves.
  # Not async: old queues that stop erase persistent terms, for which the VM looks through all processes, and other tests
  # count what idle ones do.
  use PaymentQueue.QueueCase

  alias PaymentQueue.Migration
  alias PaymentQueue.Migration.{EtsAdapter, GenServerAdapter}

  defmodule Server do
    use GenServer

    def start_link(_), do: GenServer.start_link(__MODULE__, :queue.new(), name: __MODULE__)

    @impl true
    def init(queue), do: {:ok, queue}

    @impl true
    def handle_cast({:push, payload}, queue), do: {:noreply, :queue.in(payload, queue)}

    @impl true
    def handle_call({:push, payload}, _from, queue), do: {:reply, :ok, :queue.in(payload, queue)}
    def handle_call(:size, _from, queue), do: {:reply, :queue.len(queue), queue}

    def handle_call({:pop, empty}, _from, queue) do
      case :queue.out(queue) do
        {{:value, _} = item, queue} -> {:reply, item, queue}
        {:empty, queue} -> {:reply, empty, queue}
      end
    end
  end

  defmodule Cast do
    use GenServerAdapter,
      server: Server,
      enqueue: {:cast, :push},
      stats: {:call, :size},
      take: {:call, {:pop, nil}}
  end

  defmodule Call do
    use GenServerAdapter,
      server: Server,
      enqueue: {:call, :push},
      stats: {:call, :size},
      take: {:call, {:pop, {:error, :empty}}}

    def stats, do: %{queue_size: super(), in_flight: 3}
  end

  defmodule NoTake do
    use GenServerAdapter, server: Server, enqueue: {:call, :push}, stats: {:call, :size}
  end

  defmodule Table do
    @capacity 5

    def new do
      :ets.new(__MODULE__, [:ordered_set, :public, :named_table])
      :persistent_term.put(__MODULE__, :atomics.new(1, []))
    end

    def enqueue(payload) do
      if :atomics.get(counter(), 1) < @capacity do
        :ets.insert(__MODULE__, {{System.monotonic_time(), make_ref()}, :meta, payload})
        :atomics.add(counter(), 1, 1)
      else
        {:error, :queue_full}
      end
    end

    def stats, do: %{queue_size: :atomics.get(counter(), 1)}
    def count_down(by), do: :atomics.sub(counter(), 1, by)
    def tid, do: :ets.whereis(__MODULE__)

    defp counter, do: :persistent_term.get(__MODULE__)
  end

  defmodule ByName do
    use EtsAdapter, queue: Table, table: Table, payload: 3, taken: {Table, :count_down, [1]}
  end

  defmodule ByFunction do
    use EtsAdapter, queue: Table, table: {Table, :tid, []}, payload: 3, taken: {Table, :count_down, [1, :too_many]}
  end

  defmodule WrongPosition do
    use EtsAdapter, queue: Table, table: Table, payload: 4
  end

  defp migrated(legacy) do
    {queue, name} = {queue!(), new_name()}
    start_supervised!({Migration, name: name, queue: queue, legacy: legacy}, id: name)
    for n <- 1..3, do: assert(Migration.enqueue(n, name: name) == :ok)
    assert Migration.stats(name: name).queue_size == 3
    :ok = Migration.set_mode(:native, name: name)
    {Migration.drain_legacy(name: name), take_all(queue)}
  end

  describe "GenServerAdapter" do
    for adapter <- [Cast, Call] do
      test "#{inspect(adapter)}: enqueue, stats and drain" do
        start_supervised!(Server)
        assert migrated(unquote(adapter)) == {{:ok, 3}, [1, 2, 3]}
      end
    end

    test "without take: there is no drain" do
      start_supervised!(Server)
      assert migrated(NoTake) == {{:error, :no_take, 0}, []}
      assert GenServer.call(Server, :size) == 3
    end

    # Longer than GenServer.call/2 waits: a reply that comes later than that would be read by nobody.
    @tag :long
    test "taking waits for a process that is busy" do
      server = start_supervised!(Server)
      :ok = Cast.enqueue(:pay)
      :ok = :sys.suspend(server)
      take = Task.async(fn -> Cast.take() end)
      let_pass(6_000)
      :ok = :sys.resume(server)
      assert Task.await(take) == {:ok, :pay}
    end

    test "functions can be overridden" do
      start_supervised!(Server)
      assert Call.stats() == %{queue_size: 0, in_flight: 3}
    end

    test "a cast to nobody is refused" do
      assert Cast.enqueue(:pay) == {:error, :queue_unavailable}
    end

    test "options are checked" do
      good = [server: Server, enqueue: {:cast, :push}, stats: {:call, :size}]

      for {option, bad} <- [server: nil, enqueue: :push, stats: :size, take: :pop] do
        assert_raise ArgumentError, ~r/invalid value for :#{option}: #{inspect(bad)}; allowed/, fn ->
          GenServerAdapter.new!(Keyword.put(good, option, bad))
        end
      end

      assert_raise ArgumentError, ~r/unknown keys \[:pop\]/, fn -> GenServerAdapter.new!([pop: 1] ++ good) end
    end
  end

  describe "EtsAdapter" do
    setup do
      Table.new()
      :ok
    end

    test "takes oldest first and counts down: the old queue has room again" do
      for n <- 1..5, do: assert(ByName.enqueue(n) == :ok)
      assert ByName.enqueue(6) == {:error, :queue_full}
      assert ByName.take() == {:ok, 1}
      assert ByName.enqueue(6) == :ok
      assert for(_ <- 1..5, {:ok, n} <- [ByName.take()], do: n) == [2, 3, 4, 5, 6]
      assert ByName.take() == :empty
      assert migrated(ByName) == {{:ok, 3}, [1, 2, 3]}
    end

    test "two takers never get the same item" do
      for _ <- 1..100 do
        for n <- 1..5, do: :ok = Table.enqueue(n)
        taken = together(for _ <- 1..4, do: fn -> for(_ <- 1..5, {:ok, n} <- [ByName.take()], do: n) end)
        assert taken |> List.flatten() |> Enum.sort() == [1, 2, 3, 4, 5]
      end
    end

    test "a taken: that fails does not cost the item" do
      :ok = Table.enqueue(:pay)
      assert ByFunction.take() == {:ok, :pay}
    end

    test "what is stored otherwise than said is shown, and stays in the table" do
      assert {{:error, {:error, %ArgumentError{message: message}}, 0}, []} = migrated(WrongPosition)
      assert message =~ ~r/invalid value for :payload: 4; allowed: a position in what the table holds, {{.*}, :meta, 1}/
      assert for(_ <- 1..3, {:ok, n} <- [ByName.take()], do: n) == [1, 2, 3]
    end

    test "a bag is refused before anything is taken" do
      for type <- [:bag, :duplicate_bag] do
        :ets.delete(Table)
        :ets.new(Table, [type, :public, :named_table])
        :ets.insert(Table, [{:customer, :meta, 1}, {:customer, :meta, 2}])
        assert_raise ArgumentError, ~r/Table is a bag; allowed: a set or an ordered_set/, fn -> ByName.take() end
        assert :ets.info(Table, :size) == 2
      end
    end

    test "options are checked" do
      good = [queue: Table, table: Table]

      for {option, bad} <- [queue: nil, table: {Table, :tid}, payload: 0, taken: &Table.count_down/1] do
        assert_raise ArgumentError, ~r/invalid value for :#{option}: /, fn ->
          EtsAdapter.new!(Keyword.put(good, option, bad))
        end
      end
    end
  end
end
