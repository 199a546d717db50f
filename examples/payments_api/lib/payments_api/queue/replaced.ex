defmodule PaymentsApi.Queue.Replaced do
  @moduledoc """
  What the two replaced queues need around them to serve the same API: `use PaymentsApi.Queue.Replaced, queue: Module`.

  Their workers put a failed payment back at the tail; dead letters and a drain they don't have. What a handler gives up is
  noted here, for otherwise every declined payment would look lost; and the drain looks again until nothing is left, as
  applications that had these queues did.
  """

  alias PaymentQueue.Baseline.Worker
  alias PaymentsApi.{Attempts, Payer}

  @look_again_ms 5

  defmacro __using__(queue: queue) do
    quote do
      @behaviour PaymentsApi.Queue

      alias PaymentsApi.Queue.Replaced

      @impl true
      def child_spec(opts), do: Replaced.tree(__MODULE__, unquote(queue), opts)

      @impl true
      def enqueue(payment), do: Replaced.enqueue(__MODULE__, unquote(queue), payment)

      @impl true
      def stats, do: unquote(queue).stats()

      @impl true
      def workers, do: Replaced.workers(__MODULE__)

      @impl true
      def drain(timeout), do: Replaced.drain(__MODULE__, unquote(queue), timeout)

      @impl true
      def dead, do: Replaced.dead(__MODULE__)

      @impl true
      def account, do: Replaced.account(unquote(queue))
    end
  end

  @doc false
  def tree(name, queue, opts) do
    children = [
      {queue, capacity: Keyword.fetch!(opts, :capacity)},
      {Worker,
       queue: queue, handler: &handle(name, &1), concurrency: Keyword.fetch!(opts, :concurrency), name: pool(name)}
    ]

    %{id: name, type: :supervisor, start: {__MODULE__, :start_link, [name, children]}}
  end

  @doc false
  def start_link(name, children) do
    with {:ok, pid} <- Supervisor.start_link(children, strategy: :rest_for_one) do
      # The caller is the supervisor of the API, so the table outlives the queue and its workers.
      :ets.whereis(name) == :undefined && :ets.new(name, [:set, :public, :named_table])
      :persistent_term.put({name, :open}, true)
      {:ok, pid}
    end
  end

  defp handle(name, payment) do
    answer = Payer.handle(payment)
    if match?({:cancel, _reason}, answer), do: :ets.insert(name, {payment.ticket, payment})
    answer
  end

  @doc false
  def enqueue(name, queue, payment) do
    if :persistent_term.get({name, :open}), do: queue.enqueue(payment), else: {:error, :queue_closed}
  end

  @doc false
  def workers(name), do: Worker.loops(pool(name))

  @doc false
  def drain(name, queue, timeout) do
    :persistent_term.put({name, :open}, false)
    wait_until_empty(queue, System.monotonic_time(:millisecond) + timeout)
  end

  defp wait_until_empty(queue, deadline) do
    cond do
      queue.stats().queue_size == 0 and not Attempts.busy?() -> :ok
      System.monotonic_time(:millisecond) > deadline -> {:error, :timeout}
      true -> Process.sleep(@look_again_ms) && wait_until_empty(queue, deadline)
    end
  end

  @doc false
  def dead(name), do: for({_ticket, payment} <- :ets.tab2list(name), do: payment)

  @doc false
  def account(queue), do: Map.take(queue.stats(), [:queue_size])

  defp pool(name), do: Module.concat(name, Workers)
end
