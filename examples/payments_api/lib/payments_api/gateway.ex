defmodule PaymentsApi.Gateway do
  @moduledoc """
  A simulated payment processor: another company's server, slow and failing at times.

  It behaves as real ones do:

    * every charge carries an idempotency key, the `correlationId`. A second charge with a key that was charged is
      answered `:already_charged`; one whose key is being charged right now gets that answer when it is done;
    * what it has begun it finishes: that the caller died in the meantime is not its concern;
    * it declines some payments for good, and always the same ones;
    * it is unavailable at random moments and during outages, and says so without having charged;
    * and sometimes it charges, but the answer gets lost.

  Options: `processor:`, `latency:` (a range of ms), `error_rate:`, `lost_answer_rate:`, `decline_one_in:`, and
  `outages:` (`{up_ms, down_ms}` or nil). Latencies are timers here because they stand for a network; the queue has none.
  """

  use GenServer

  alias PaymentsApi.{Ledger, UUID}

  @answer_within 250
  @refuse_after 1

  @defaults [latency: 1..3, error_rate: 0.0, lost_answer_rate: 0.0, decline_one_in: :never, outages: nil]

  @type answer :: {:ok, :charged | :already_charged} | {:error, :declined | :unavailable | :no_answer}

  @spec child_spec(keyword()) :: Supervisor.child_spec()
  def child_spec(opts) do
    %{id: {__MODULE__, Keyword.fetch!(opts, :processor)}, start: {__MODULE__, :start_link, [opts]}}
  end

  @spec start_link(keyword()) :: GenServer.on_start()
  def start_link(opts) do
    opts = Keyword.validate!(opts, [:processor | @defaults])
    GenServer.start_link(__MODULE__, Map.new(opts), name: name(opts[:processor]))
  end

  @doc """
  Charges `cents` under the idempotency key `id`.

  After `:declined` and `:unavailable` nothing was charged. After `:no_answer` nobody knows: ask again with the same key.
  """
  @spec charge(Ledger.processor(), UUID.t(), pos_integer()) :: answer()
  def charge(processor, id, cents) do
    GenServer.call(name(processor), {:charge, id, cents}, @answer_within)
  catch
    :exit, _timeout_or_down -> {:error, :no_answer}
  end

  defp name(:default), do: PaymentsApi.Gateway.Default
  defp name(:fallback), do: PaymentsApi.Gateway.Fallback

  @impl true
  def init(config) do
    state = %{
      # Keys that were charged. Not in the heap: it would be copied by every garbage collection.
      charged: :ets.new(:charged, [:set, :private]),
      # Keys that are being charged: key => callers, the first of them last.
      pending: %{},
      started_at: System.monotonic_time(:millisecond)
    }

    {:ok, Map.merge(config, state)}
  end

  @impl true
  def handle_call({:charge, id, cents}, from, state) do
    cond do
      Map.has_key?(state.pending, id) -> {:noreply, update_in(state.pending[id], &[from | &1])}
      unavailable?(state) -> later(@refuse_after, {:answer, from, {:error, :unavailable}}, state)
      :ets.member(state.charged, id) -> later(latency(state), {:answer, from, {:ok, :already_charged}}, state)
      declined?(id, state) -> later(latency(state), {:answer, from, {:error, :declined}}, state)
      true -> later(latency(state), {:charge, id, cents}, put_in(state.pending[id], [from]))
    end
  end

  @impl true
  def handle_info({:answer, from, answer}, state) do
    GenServer.reply(from, answer)
    {:noreply, state}
  end

  def handle_info({:charge, id, cents}, state) do
    {callers, pending} = Map.pop!(state.pending, id)
    [first | others] = Enum.reverse(callers)
    Ledger.charge(state.processor, id, cents)
    :ets.insert(state.charged, {id})
    unless happens?(state.lost_answer_rate), do: GenServer.reply(first, {:ok, :charged})
    Enum.each(others, &GenServer.reply(&1, {:ok, :already_charged}))
    {:noreply, %{state | pending: pending}}
  end

  defp later(ms, message, state) do
    Process.send_after(self(), message, ms)
    {:noreply, state}
  end

  defp latency(%{latency: range}), do: Enum.random(range)

  defp unavailable?(state), do: down?(state) or happens?(state.error_rate)

  defp down?(%{outages: nil}), do: false

  defp down?(%{outages: {up_ms, down_ms}, started_at: started_at}) do
    rem(System.monotonic_time(:millisecond) - started_at, up_ms + down_ms) >= up_ms
  end

  # By the key, so that asking again is answered the same.
  defp declined?(_id, %{decline_one_in: :never}), do: false
  defp declined?(id, %{decline_one_in: n}), do: :erlang.phash2(id, n) == 0

  defp happens?(rate), do: rate > 0 and :rand.uniform() < rate
end
