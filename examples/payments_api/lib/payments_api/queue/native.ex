defmodule PaymentsApi.Queue.Native do
  @moduledoc """
  The API over PaymentQueue.

  What an application needs of it is the first half: a child in its supervision tree, `enqueue`, `stats` and `drain`.
  """

  @behaviour PaymentsApi.Queue

  alias PaymentsApi.Payer

  @queue :payments

  # All that a run can decline must fit, so that the table at the end can name them.
  @max_dead 1_000_000

  @impl true
  def child_spec(opts) do
    {PaymentQueue,
     name: @queue,
     handler: Payer,
     capacity: Keyword.fetch!(opts, :capacity),
     concurrency: Keyword.fetch!(opts, :concurrency),
     backoff: [min: 50, max: 1_000, jitter: 0.2],
     max_dead: @max_dead}
    |> Supervisor.child_spec([])
  end

  @impl true
  def enqueue(payment), do: PaymentQueue.enqueue(payment, queue: @queue)

  @impl true
  def stats, do: PaymentQueue.stats(@queue)

  @impl true
  def name, do: @queue

  @impl true
  def drain(timeout), do: PaymentQueue.drain(@queue, timeout: timeout)

  # --- for the demo -----------------------------------------------------------------------------------------------

  @counters [
    :enqueued,
    :settled,
    :dead,
    :dead_dropped,
    :redelivered,
    :rejected_full,
    :queue_size,
    :in_flight,
    :scheduled
  ]

  @impl true
  def account, do: @queue |> PaymentQueue.info() |> Map.take(@counters)

  @impl true
  def dead, do: for(%{payload: payment} <- PaymentQueue.dead_letters(@queue, @max_dead), do: payment)

  # No application needs to know its workers; these are looked up in PaymentQueue's supervision tree to be killed.
  @impl true
  def workers do
    for {PaymentQueue.Workers.Pool, pool, _, _} when is_pid(pool) <- children(PaymentQueue.Supervisor.name(@queue)),
        {:links, linked} <- [Process.info(pool, :links)],
        supervisor <- linked,
        {_, worker, _, [PaymentQueue.Workers.Worker]} when is_pid(worker) <- children(supervisor),
        do: worker
  end

  defp children(supervisor) do
    if supervisor?(supervisor), do: Supervisor.which_children(supervisor), else: []
  end

  # A pool is linked to the supervisor above it and to that of its workers.
  defp supervisor?(name) when is_atom(name), do: Process.whereis(name) != nil

  defp supervisor?(pid) do
    with {:dictionary, dictionary} <- Process.info(pid, :dictionary) do
      match?({:supervisor, _, _}, dictionary[:"$initial_call"])
    end
  end
end
