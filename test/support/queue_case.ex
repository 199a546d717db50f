defmodule PaymentQueue.QueueCase do
  @moduledoc false
  # For tests of queues: each gets a queue of its own, new and with all counters at zero, and processes that do what they
  # are told.

  use ExUnit.CaseTemplate

  alias PaymentQueue.QueueCase.Actor

  using do
    quote do
      import PaymentQueue.QueueCase

      alias PaymentQueue.QueueCase.Actor
    end
  end

  @doc """
  Starts a queue that never was before, and stops it with the test. With `PAYMENT_QUEUE_TEST_DURABILITY=async` or `sync` in the
  environment its items are on disk: the laws are the same wherever items live.
  """
  def queue!(opts \\ []) do
    name = Keyword.get_lazy(opts, :name, &new_name/0)
    opts = Keyword.merge([name: name, shutdown: 100] ++ place(), opts)
    start_supervised!({PaymentQueue, opts}, id: name, restart: :temporary)
    name
  end

  @doc "The options that say where the items of the tests' queues live."
  def place do
    case System.get_env("PAYMENT_QUEUE_TEST_DURABILITY", "none") do
      "none" -> []
      durability when durability in ["async", "sync"] -> [durability: String.to_atom(durability), dir: scratch()]
    end
  end

  @doc "Bytes that an item of the tests' queues counts beside its payload: its number, if it is on disk."
  def own_bytes, do: if(place() == [], do: 0, else: 8)

  @doc "A directory of the test's own, gone with the test."
  def scratch_dir do
    dir = Path.join(System.tmp_dir!(), "payment_queue_#{System.pid()}_#{System.unique_integer([:positive])}")
    File.mkdir_p!(dir)
    ExUnit.Callbacks.on_exit(fn -> File.rm_rf!(dir) end)
    dir
  end

  # One for the whole run: queues stay open as long as the VM lives.
  defp scratch do
    dir = Path.join(System.tmp_dir!(), "payment_queue_test_#{System.pid()}")
    unless File.exists?(dir), do: System.at_exit(fn _ -> File.rm_rf!(dir) end)
    File.mkdir_p!(dir)
    dir
  end

  @doc "A name for a queue that never was before."
  def new_name, do: :"test_queue_#{System.unique_integer([:positive])}"

  @doc """
  The law of conservation, at a quiet moment; returns the `info/1` of that moment. What the test knows to be over may
  still be on its last few instructions in another process, so the moment may come a little later.
  """
  def assert_conserved(queue, tries \\ 50) do
    info = PaymentQueue.info(queue)

    sum = info.settled + info.queue_size + info.in_flight + info.scheduled + info.dead + info.dead_dropped + info.purged

    if info.enqueued != sum and tries > 0 do
      let_pass(10)
      assert_conserved(queue, tries - 1)
    else
      assert info.enqueued == sum, "not conserved: #{inspect(info)}"
      info
    end
  end

  @doc """
  Waits until the function returns a truthy value, and returns that. Only for what nothing announces: counters that change
  when a process has died elsewhere.
  """
  def eventually(fun, tries \\ 1_000) do
    cond do
      value = fun.() ->
        value

      tries == 0 ->
        flunk("did not happen within ten seconds")

      true ->
        receive do
        after
          10 -> eventually(fun, tries - 1)
        end
    end
  end

  @doc "A process that runs functions for the test until the test ends or kills it."
  def actor, do: start_supervised!({Actor, self()}, id: make_ref(), restart: :temporary)

  @doc "Runs the functions at the same time, each in a process of its own, and returns their results."
  def together(funs) do
    tasks =
      for fun <- funs do
        Task.async(fn ->
          receive do: (:go -> fun.())
        end)
      end

    Enum.each(tasks, &send(&1.pid, :go))
    Task.await_many(tasks, 60_000)
  end

  @doc "Lets time pass. For showing that something does *not* happen, never for waiting until something does."
  def let_pass(ms) do
    receive do
    after
      ms -> :ok
    end
  end

  @doc "The most reductions that one of the processes needs while the time passes."
  def growth(pids, ms) do
    before = Enum.map(pids, &reductions/1)
    let_pass(ms)
    pids |> Enum.map(&reductions/1) |> Enum.zip_with(before, &-/2) |> Enum.max()
  end

  defp reductions(pid) do
    {:reductions, n} = Process.info(pid, :reductions)
    n
  end

  @doc "Ends a process and waits until it is gone."
  def kill(pid, reason \\ :kill) do
    monitor = Process.monitor(pid)
    Process.exit(pid, reason)
    assert_receive {:DOWN, ^monitor, :process, ^pid, _}, 5_000
    :ok
  end

  @doc "Takes everything that is there, settles it, and returns the payloads."
  def take_all(queue, last \\ nil, acc \\ []) do
    opts = if last, do: [queue: queue, ack: last], else: [queue: queue]

    case PaymentQueue.take(opts) do
      {:ok, payload, lease} -> take_all(queue, lease, [payload | acc])
      :empty -> Enum.reverse(acc)
    end
  end

  @doc "A handler that reports to the test and returns what the test says."
  def asking(test) do
    fn payload ->
      send(test, {:handling, self(), payload})

      receive do
        {:return, fun} when is_function(fun) -> fun.()
        {:return, value} -> value
      end
    end
  end

  @doc "A handler that tells the test what it handled."
  def telling(test, returns \\ :ok) do
    fn payload ->
      send(test, {:handled, payload})
      returns
    end
  end

  @doc "The dead letters of a queue, once there are `n`."
  def dead_letters(queue, n) do
    eventually(fn -> PaymentQueue.info(queue).dead == n end)
    PaymentQueue.dead_letters(queue, n)
  end

  @doc "The workers of a queue."
  def workers(queue) do
    supervisor = :sys.get_state(PaymentQueue.Supervisor.pool(queue)).sup
    for {_, pid, _, _} <- DynamicSupervisor.which_children(supervisor), do: pid
  end

  @doc "The tree of a queue."
  def tree(queue), do: Process.whereis(PaymentQueue.Supervisor.name(queue))
end

defmodule PaymentQueue.QueueCase.Actor do
  @moduledoc false

  def child_spec(owner), do: %{id: __MODULE__, start: {__MODULE__, :start_link, [owner]}}

  def start_link(_owner), do: {:ok, :proc_lib.spawn_link(__MODULE__, :loop, [])}

  @doc "Runs the function in the actor and returns its result."
  def run(actor, fun) do
    ref = cast(actor, fun)

    receive do
      {^ref, result} -> result
    after
      10_000 -> raise "the actor did not answer"
    end
  end

  @doc "As `run/2`; the result arrives as the message `{ref, result}`."
  def cast(actor, fun) do
    ref = make_ref()
    send(actor, {:run, self(), ref, fun})
    ref
  end

  def loop do
    receive do
      {:run, from, ref, fun} -> send(from, {ref, fun.()})
    end

    loop()
  end
end
