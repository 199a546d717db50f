defmodule PaymentQueue.Nats.Native do
  @moduledoc false
  # The boundary to the NIF of queues in NATS: one stub per native function. Nothing waits in here. What needs the server
  # returns a token, and the caller gets `{:payment_queue, :nats, token, answer}` exactly once.

  @compile {:autoload, false}
  @on_load :load

  @type token :: pos_integer()
  @type format :: :binary | :term
  @type payload :: {format(), binary()}
  @type lease :: {:nats, non_neg_integer(), pos_integer(), pos_integer()}
  @type delivery :: {lease(), payload(), non_neg_integer()}
  @type item :: {binary(), boolean(), String.t() | nil}
  @type secret :: :none | {:token | :nkey | :creds, String.t()} | {:user, String.t(), String.t()}
  @type limits :: {pos_integer(), pos_integer(), pos_integer(), pos_integer(), non_neg_integer()}
  @type tls :: {String.t() | nil, String.t() | nil, String.t() | nil}

  @doc false
  def load do
    path = :filename.join(:code.priv_dir(:payment_queue), ~c"payment_queue_nats_nif")
    :erlang.load_nif(path, 0)
  end

  @spec open(binary(), {[String.t()], tls() | nil, secret(), pos_integer()}, tuple()) :: token()
  def open(_key, _connection, _settings), do: err()

  @spec configure(non_neg_integer(), limits()) :: token()
  def configure(_index, _settings), do: err()

  @spec settings(non_neg_integer()) :: limits()
  def settings(_index), do: err()

  @spec state(non_neg_integer()) :: :running | :paused | :closed
  def state(_index), do: err()

  @spec close(non_neg_integer()) :: :ok
  def close(_index), do: err()

  @spec reopen(non_neg_integer()) :: :ok
  def reopen(_index), do: err()

  @doc "Changes how many items are fetched ahead of the takers."
  @spec prefetch(non_neg_integer(), non_neg_integer()) :: :ok
  def prefetch(_index, _n), do: err()

  @spec pause(non_neg_integer()) :: :ok
  def pause(_index), do: err()

  @spec resume(non_neg_integer()) :: :ok
  def resume(_index), do: err()

  @spec enqueue(non_neg_integer(), item(), non_neg_integer(), pos_integer()) :: token()
  def enqueue(_index, _item, _delay_ms, _within_ms), do: err()

  @spec enqueue_many(non_neg_integer(), [item()], non_neg_integer(), pos_integer()) :: token()
  def enqueue_many(_index, _items, _delay_ms, _within_ms), do: err()

  @spec poll(non_neg_integer(), pos_integer()) :: token()
  def poll(_index, _n), do: err()

  @doc "`{:parked, token}`: the message `{:payment_queue, :delivered, token, delivery}` hands over the next item."
  @spec park(non_neg_integer()) :: {:ok, delivery()} | {:parked, pos_integer()}
  def park(_index), do: err()

  @spec unpark(non_neg_integer(), pos_integer()) :: :ok | :delivered
  def unpark(_index, _token), do: err()

  @spec waited(non_neg_integer(), pos_integer()) :: non_neg_integer()
  def waited(_index, _lease), do: err()

  @spec ack(non_neg_integer(), pos_integer()) :: token() | :stale_lease
  def ack(_index, _lease), do: err()

  @spec release(non_neg_integer(), pos_integer(), non_neg_integer()) :: token() | :stale_lease
  def release(_index, _lease, _delay_ms), do: err()

  @spec retry(non_neg_integer(), pos_integer(), non_neg_integer(), binary()) :: token() | :stale_lease
  def retry(_index, _lease, _delay_ms, _reason), do: err()

  @spec reject(non_neg_integer(), pos_integer(), binary()) :: token() | :stale_lease
  def reject(_index, _lease, _reason), do: err()

  @spec expire(non_neg_integer(), pos_integer(), non_neg_integer(), binary()) :: :ok | {:error, :stale_lease}
  def expire(_index, _lease, _delay_ms, _reason), do: err()

  @spec stats(non_neg_integer()) :: token()
  def stats(_index), do: err()

  @doc "Answers `{:ok, {waiting, in_flight, bytes, oldest_ms, dead}}` or `{:error, text}`."
  @spec info(non_neg_integer(), pos_integer()) :: token()
  def info(_index, _within_ms), do: err()

  @doc "What this node did, as `PaymentQueue.Nats` names it."
  @spec counters(non_neg_integer()) :: [non_neg_integer()]
  def counters(_index), do: err()

  @doc "Takers that wait on this node."
  @spec parked(non_neg_integer()) :: non_neg_integer()
  def parked(_index), do: err()

  @doc "Whether this node's connection is up, as far as it knows."
  @spec connected(non_neg_integer()) :: boolean()
  def connected(_index), do: err()

  @spec peek(non_neg_integer(), non_neg_integer()) :: token()
  def peek(_index, _n), do: err()

  @spec dead_letters(non_neg_integer(), non_neg_integer()) :: token()
  def dead_letters(_index, _n), do: err()

  @spec requeue_dead(non_neg_integer(), non_neg_integer()) :: token()
  def requeue_dead(_index, _n), do: err()

  @spec purge(non_neg_integer()) :: token()
  def purge(_index), do: err()

  @spec await_empty(non_neg_integer(), non_neg_integer() | nil) :: token()
  def await_empty(_index, _within_ms), do: err()

  defp err, do: :erlang.nif_error(:nif_not_loaded)
end
