defmodule PaymentQueue.Guides.MigratingTest do
  # Every block of guides/migrating.md is run: sessions as doctests, the application's code in the tests of its example (of
  # which it is a literal part), the rest here. Not async, because a guide uses the default names.
  use PaymentQueue.QueueCase

  alias PaymentQueue.{Guide, Migration, OldQueue}

  defmodule Elixir.MyApp.PaymentServer do
    use GenServer

    def start_link(_), do: GenServer.start_link(__MODULE__, [], name: __MODULE__)

    @impl true
    def init(items), do: {:ok, items}

    @impl true
    def handle_cast({:enqueue, item}, items), do: {:noreply, items ++ [item]}

    @impl true
    def handle_call(:stats, _from, items), do: {:reply, %{queue_size: length(items)}, items}
    def handle_call(:dequeue, _from, [item | items]), do: {:reply, {:ok, item}, items}
    def handle_call(:dequeue, _from, []), do: {:reply, :empty, []}
  end

  defmodule Elixir.MyApp.EtsQueue do
    @table __MODULE__.Table

    def new, do: :ets.new(@table, [:ordered_set, :public, :named_table])
    def enqueue(item), do: :ets.insert(@table, {{System.monotonic_time(), make_ref()}, item})
    def stats, do: %{queue_size: :ets.info(@table, :size)}
    def count_down, do: send(self(), :counted_down)
  end

  # Three payments wait in the old queue.
  setup do
    legacy = OldQueue.baseline!()
    for n <- 1..3, do: legacy.enqueue(n)
    queue!(name: :default)
    {:ok, _} = PaymentQueue.purge()
    start_supervised!({Migration, legacy: legacy})
    :ok
  end

  doctest PaymentQueue.Guides.Migrating, import: false

  test "every other block is a literal part of the example, or is compiled and used here" do
    sources = Path.wildcard(Path.expand("../../examples/plug_app/lib/**/*.ex", __DIR__)) |> Enum.map(&File.read!/1)
    assert length(sources) > 5

    {of_the_example, others} =
      Guide.blocks("guides/migrating.md")
      |> Enum.map(& &1.code)
      |> Enum.reject(&(&1 =~ "iex>"))
      |> Enum.split_with(fn block -> Enum.any?(sources, &String.contains?(&1, block)) end)

    assert length(of_the_example) == 4
    modules = for block <- others, {module, _} <- Code.compile_string(block), do: module
    assert modules == [MyApp.OldQueue, MyApp.OldServer]

    MyApp.EtsQueue.new()
    start_supervised!(MyApp.PaymentServer)

    for module <- modules do
      for n <- 1..2, do: module.enqueue(n)
      assert module.stats().queue_size == 2
      assert {module.take(), module.take(), module.take()} == {{:ok, 1}, {:ok, 2}, :empty}
    end

    assert_received :counted_down
  end
end
