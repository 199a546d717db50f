# What the Benchee scripts share. Compiled modules are used where they are; in an application that depends on PaymentQueue,
# which never gets the benches, their sources are loaded.
unless Code.ensure_loaded?(PaymentQueue.Bench.Adapter) do
  for file <- ~w(
        wrong_result.ex payload.ex ../baseline/queue.ex ../baseline/gen_server_queue.ex ../baseline/ets_queue.ex
        adapter.ex adapters/polling.ex adapters/gen_server.ex adapters/ets.ex adapters/native.ex
      ) do
    Code.require_file(file, __DIR__)
  end
end

defmodule PaymentQueue.Bench.BencheeRuns do
  @moduledoc """
  The Benchee scripts: one job for each queue, each invocation of which handles a batch of items, for a single one is hardly
  slower than the clock. What an invocation did is checked after it.
  """

  @compile {:no_warn_undefined, Benchee}

  alias PaymentQueue.Bench.{Adapter, Payload, WrongResult}

  @batch 1_000
  @kinds [:map, :binary, :binary_4k]

  @type step :: (adapter :: module(), Adapter.handle(), Adapter.payload() -> term())

  @doc """
  Runs `job` on each queue with each kind of payload, or says what to do where Benchee is not there. `left` is the number of
  items that the job leaves in the queue. `BENCHEE_SECONDS` is the time for each queue and payload (2).
  """
  @spec run(String.t(), before :: step(), job :: step(), left :: non_neg_integer()) :: :ok
  def run(title, before, job, left) do
    if Code.ensure_loaded?(Benchee), do: run_jobs(title, before, job, left), else: IO.puts(:stderr, explanation())
    :ok
  end

  defp explanation do
    """
    Benchee is not loaded. Add {:benchee, "~> 1.3", only: :dev} to the deps of your application and call this script in its
    iex -S mix, or put Benchee's libraries on ERL_LIBS. `mix payment_queue.bench` of this repository needs no library.
    """
  end

  defp run_jobs(title, before, job, left) do
    {seconds, ""} = "BENCHEE_SECONDS" |> System.get_env("2") |> Float.parse()

    Benchee.run(
      for(adapter <- Adapter.all(), into: %{}, do: {adapter.name(), scenario(adapter, before, job, left)}),
      title: "#{title}; an invocation is #{@batch} items",
      inputs: for(kind <- @kinds, do: {Payload.title(kind), Payload.build(kind, 1)}),
      time: seconds,
      warmup: seconds / 4
    )
  end

  defp scenario(adapter, before, job, left) do
    invocation = fn {handle, payload} ->
      job.(adapter, handle, payload)
      {handle, payload}
    end

    {invocation,
     before_scenario: fn payload -> {adapter.start(2 * @batch), payload} end,
     before_each: fn {handle, payload} ->
       before.(adapter, handle, payload)
       {handle, payload}
     end,
     after_each: fn {handle, payload} -> tidy(adapter, handle, payload, left) end,
     after_scenario: fn {handle, _payload} -> adapter.stop(handle) end}
  end

  defp tidy(adapter, handle, payload, left) do
    WrongResult.check!("#{adapter.name()}: items left", left, adapter.stats(handle).queue_size)
    take(adapter, handle, payload, left)
    WrongResult.check_drained!(adapter.name(), adapter, handle)
  end

  @doc "Before a job that needs nothing."
  @spec nothing(module(), Adapter.handle(), Adapter.payload()) :: :ok
  def nothing(_adapter, _handle, _payload), do: :ok

  @doc "Puts a batch."
  @spec put(module(), Adapter.handle(), Adapter.payload()) :: :ok
  def put(adapter, handle, payload), do: put(adapter, handle, payload, @batch)

  defp put(_adapter, _handle, _payload, 0), do: :ok

  defp put(adapter, handle, payload, left) do
    :ok = adapter.put(handle, payload)
    put(adapter, handle, payload, left - 1)
  end

  @doc "Takes a batch, and settles each item with the take of the next."
  @spec take(module(), Adapter.handle(), Adapter.payload()) :: :ok
  def take(adapter, handle, payload), do: take(adapter, handle, payload, @batch)

  defp take(adapter, handle, payload, count), do: take(adapter, handle, payload, count, nil)

  defp take(adapter, handle, _payload, 0, last), do: adapter.settle(handle, last)

  defp take(adapter, handle, payload, left, last) do
    {^payload, lease} = adapter.take(handle, last)
    take(adapter, handle, payload, left - 1, lease)
  end

  @doc "Puts, takes and settles one item after the other."
  @spec round_trip(module(), Adapter.handle(), Adapter.payload()) :: :ok
  def round_trip(adapter, handle, payload), do: round_trip(adapter, handle, payload, @batch)

  defp round_trip(_adapter, _handle, _payload, 0), do: :ok

  defp round_trip(adapter, handle, payload, left) do
    :ok = adapter.put(handle, payload)
    {^payload, lease} = adapter.take(handle, nil)
    :ok = adapter.settle(handle, lease)
    round_trip(adapter, handle, payload, left - 1)
  end

  @doc "Items that stay in the queue when nothing takes them."
  @spec batch() :: pos_integer()
  def batch, do: @batch
end
