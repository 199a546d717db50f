defmodule PaymentQueue.Native do
  @moduledoc false
  # The frozen boundary to the NIF: one stub per native function, nothing else. A NIF module cannot be upgraded in
  # place, so what may change lives above it (PaymentQueue and friends) or below it (the Rust crates).
  #
  # Times are whole milliseconds. A payload crosses as a term; where it crosses as bytes, a format says what they are.
  # `:large` answers mean "not on this scheduler": the caller repeats the work with the function that the answer names.

  @compile {:autoload, false}
  @on_load :load

  @typedoc "Address of one delivery: `{queue and consumer, slot and attempt, generation}`. Opaque to callers."
  @type lease :: {non_neg_integer(), non_neg_integer(), pos_integer()}

  @typedoc "`{capacity, max_bytes, max_payload_bytes, max_attempts, max_dead, rate_limit, unique_for, priorities}`"
  @type settings ::
          {pos_integer(), pos_integer(), pos_integer(), pos_integer(), non_neg_integer(),
           {pos_integer(), pos_integer()} | nil, non_neg_integer() | nil, pos_integer()}

  @typedoc """
  The payload's own bytes; its external term format, made in this VM (`:term`) or maybe by another one, found on disk
  (`:stored`); or (from `peek/2` and `dead_letters/2`) the term itself.
  """
  @type format :: :binary | :term | :stored | :decoded
  @typedoc "`{delay in ms, key in bytes, partition in bytes, priority}`"
  @type how :: {non_neg_integer(), binary() | nil, binary() | nil, non_neg_integer()}
  @type unavailable :: {:error, :queue_unavailable}
  @type refusal ::
          {:error,
           :queue_full
           | :queue_closed
           | :queue_unavailable
           | :payload_too_large
           | :duplicate
           | :no_keys
           | :no_priority
           | {:storage, atom()}}

  @typedoc """
  The disk has the next word: the message `{:payment_queue, :stored, token, answer}` brings it, with `:ok` or
  `{:error, {:storage, reason}, detail}`, unless `cancel_wait/1` answers `:ok`.
  """
  @type storing :: {:storing, pos_integer()}
  @typedoc """
  An item with the same key is on its way to the disk: after the message of `t:storing/0` under this token, call again.
  """
  @type undecided :: {:undecided, pos_integer()}
  @type enqueued_many ::
          {:ok, non_neg_integer()}
          | {:more | :large, non_neg_integer(), [term()]}
          | {:error, atom() | {:storage, atom()}, non_neg_integer()}
  @type settled :: :ok | {:error, :stale_lease}
  @type taken :: {:ok, term(), lease()} | {:large, lease()} | :empty | unavailable()

  @type histogram :: {non_neg_integer(), [{non_neg_integer(), pos_integer()}]}

  @doc false
  def load do
    path = :filename.join(:code.priv_dir(:payment_queue), ~c"payment_queue_nif")
    :erlang.load_nif(path, 0)
  end

  # --- a queue's life -------------------------------------------------------------------------------------------

  @doc """
  Creates the queue, or finds it again, applies the settings and opens it for `enqueue`. `{:error, :durability}`: it is there, and
  its items are on disk.
  """
  @spec open(atom(), settings()) :: :created | :found | {:error, :too_many_queues | :durability}
  def open(_queue, _settings), do: err()

  @spec configure(atom(), settings()) :: :ok | unavailable()
  def configure(_queue, _settings), do: err()

  @spec settings(atom()) :: settings() | unavailable()
  def settings(_queue), do: err()

  @spec queues() :: [atom()]
  def queues, do: err()

  # --- in -------------------------------------------------------------------------------------------------------

  @doc "`:large`: encode outside the NIF and call `enqueue_large/4`."
  @spec enqueue(atom(), term()) :: :ok | storing() | refusal() | :large
  def enqueue(_queue, _payload), do: err()

  @spec enqueue_with(atom(), term(), how()) :: :ok | storing() | undecided() | refusal() | :large
  def enqueue_with(_queue, _payload, _how), do: err()

  @doc "On a dirty scheduler. `bytes` is the payload itself (`:binary`) or its external term format (`:term`)."
  @spec enqueue_large(atom(), binary(), format(), how()) :: :ok | storing() | undecided() | refusal()
  def enqueue_large(_queue, _bytes, _format, _how), do: err()

  @doc "As `enqueue/2` does it."
  @spec plainly() :: how()
  def plainly, do: {0, nil, nil, 0}

  @doc """
  Takes a prefix of the list, one slice a call. `{:more, n, rest}`: call again with `rest`; `{:large, n, rest}`: the head
  of `rest` wants `enqueue_large/4`. `{:storing, token, n, answer}`: wait as for `t:storing/0`; then it is `answer`, or the
  first `n` are in.
  """
  @spec enqueue_many(atom(), [term()]) ::
          enqueued_many() | {:storing, pos_integer(), non_neg_integer(), enqueued_many()}
  def enqueue_many(_queue, _payloads), do: err()

  # --- out ------------------------------------------------------------------------------------------------------

  @doc "`{:large, lease}`: the payload waits for `fetch_large/1`."
  @spec take(atom()) :: taken()
  def take(_queue), do: err()

  @doc "Settles `lease`, then takes: one crossing for the loop of a worker. A stale lease takes nothing."
  @spec settle_take(atom(), lease()) :: taken() | {:error, :stale_lease}
  def settle_take(_queue, _lease), do: err()

  @doc "At most `n` and at most one slice; elements as in `take/1`."
  @spec take_many(atom(), pos_integer()) ::
          [{term(), lease()} | {:large, lease()}] | unavailable()
  def take_many(_queue, _n), do: err()

  @doc """
  Takes, or parks the caller: then the message `{:payment_queue, :delivered, token, lease}` hands over the next item, which
  is the caller's from that moment; `fetch/1` reads its payload.
  """
  @spec park(atom()) :: taken() | {:parked, pos_integer()}
  def park(_queue), do: err()

  @doc "`:delivered`: too late, the message is in the mailbox or on its way."
  @spec unpark(atom(), pos_integer()) :: :ok | :delivered
  def unpark(_queue, _token), do: err()

  @spec fetch(lease()) :: {:ok, term()} | :large | {:error, :stale_lease}
  def fetch(_lease), do: err()

  @doc "The payload undecoded, shared and not copied if it is long."
  @spec fetch_large(lease()) :: {format(), binary()} | {:error, :stale_lease}
  def fetch_large(_lease), do: err()

  @doc "Nanoseconds since the item was accepted, whatever became of it in between."
  @spec waited(lease()) :: non_neg_integer() | {:error, :stale_lease}
  def waited(_lease), do: err()

  @doc """
  Take and settle in one: no lease is kept. `:large` comes with the payload undecoded, as from `fetch_large/1`. `:leased`: not
  settled yet, `fetch_large/1` it first.
  """
  @spec dequeue(atom()) ::
          {:ok, term(), non_neg_integer()}
          | {:leased, lease(), non_neg_integer()}
          | {:large, {format(), binary()}, non_neg_integer()}
          | :empty
          | unavailable()
  def dequeue(_queue), do: err()

  # --- the end of a lease ---------------------------------------------------------------------------------------

  @spec ack(lease()) :: settled()
  def ack(_lease), do: err()

  @doc """
  At most one slice: the leases among them that were stale, and what is left to do. A list with anything else in it raises
  `ArgumentError` and settles none of its slice.
  """
  @spec ack_many([lease()]) :: {[lease()], [lease()]}
  def ack_many(_leases), do: err()

  @doc "Back to the head (0) or after a delay; the attempt is used up."
  @spec nack(lease(), non_neg_integer()) :: settled()
  def nack(_lease, _delay_ms), do: err()

  @doc "As `nack/2`, but the attempt does not count."
  @spec release(lease(), non_neg_integer()) :: settled()
  def release(_lease, _delay_ms), do: err()

  @doc "As `nack/2`, with the reason (bytes) that the dead letter will carry if this was the last attempt."
  @spec retry(lease(), non_neg_integer(), binary()) :: :ok | :dead | {:error, :stale_lease}
  def retry(_lease, _delay_ms, _reason), do: err()

  @spec reject(lease(), binary()) :: settled()
  def reject(_lease, _reason), do: err()

  @doc """
  The lease's last will: it is stale from now on, and when its holder dies the item is retried with this delay and reason
  rather than at once. For a watchdog that is about to kill the holder.
  """
  @spec expire(lease(), non_neg_integer(), binary()) :: settled()
  def expire(_lease, _delay_ms, _reason), do: err()

  # --- looking and operating ------------------------------------------------------------------------------------

  @spec stats(atom()) ::
          %{queue_size: non_neg_integer(), in_flight: non_neg_integer()} | unavailable()
  def stats(_queue), do: err()

  @spec state(atom()) :: :running | :paused | :closed | unavailable()
  def state(_queue), do: err()

  @doc """
  On a dirty scheduler. Waiting times and holding times since the queue was made, each as
  `{sum in us, [{upper bound in us, included; count}]}` with the buckets that are not empty, shortest first.
  """
  @spec histograms(atom()) :: {histogram(), histogram()} | unavailable()
  def histograms(_queue), do: err()

  @spec info(atom()) :: map() | unavailable()
  def info(_queue), do: err()

  @doc "On a dirty scheduler. Oldest first."
  @spec peek(atom(), non_neg_integer()) :: [{format(), term()}] | unavailable()
  def peek(_queue, _n), do: err()

  @spec pause(atom()) :: :ok | unavailable()
  def pause(_queue), do: err()

  @spec resume(atom()) :: :ok | unavailable()
  def resume(_queue), do: err()

  @doc "Refuses `enqueue` with `:queue_closed` until `open/2` or `reopen/1`."
  @spec close(atom()) :: :ok | unavailable()
  def close(_queue), do: err()

  @spec reopen(atom()) :: :ok | unavailable()
  def reopen(_queue), do: err()

  @doc """
  `:idle` when nothing is queued, in flight or scheduled; else the message `{:payment_queue, :idle, token}` will say so.
  """
  @spec await_idle(atom()) :: :idle | {:waiting, pos_integer()} | unavailable()
  def await_idle(_queue), do: err()

  @doc "`:delivered`: too late, the message is in the mailbox or on its way."
  @spec cancel_await(atom(), pos_integer()) :: :ok | :delivered | unavailable()
  def cancel_await(_queue, _token), do: err()

  @doc "Removes at most `max` waiting or scheduled items, at most one slice; 0 when none is left."
  @spec purge(atom(), pos_integer()) :: non_neg_integer() | unavailable()
  def purge(_queue, _max), do: err()

  @doc "On a dirty scheduler. Oldest first: `{{format, payload}, reason bytes, attempts, died at, unix ms}`."
  @spec dead_letters(atom(), non_neg_integer()) ::
          [{{format(), term()}, binary(), pos_integer(), integer()}] | unavailable()
  def dead_letters(_queue, _n), do: err()

  @doc "Moves at most `max` dead letters, oldest first and at most one slice, to the tail, with attempts reset."
  @spec requeue_dead(atom(), pos_integer()) :: non_neg_integer() | unavailable()
  def requeue_dead(_queue, _max), do: err()

  # --- durable queues -------------------------------------------------------------------------------------------

  @doc """
  Opens the directory of a queue (whose name is given as a text, too) under `dir` and brings its items back; or finds the queue
  again, as `open/2` does. The message `{:payment_queue, :opened, token, answer}` says what came of it, `answer` as in
  `t:storing/0`; before it, `{:payment_queue, :recovering, token, n}` says how many items are back.

  `{:error, :none}`: the queue is there, and is not durable. `{:error, :dir, other}`: it is open in another directory.
  """
  @spec open_durable(atom(), String.t(), settings(), Path.t(), :async | :sync) ::
          :found | {:opening, pos_integer()} | {:error, :none} | {:error, :dir, Path.t()}
  def open_durable(_queue, _text, _settings, _dir, _durability), do: err()

  @doc "Why the disk of a queue fails now, or nil: it does not, or there is none."
  @spec storage_failure(atom()) :: atom()
  def storage_failure(_queue), do: err()

  @doc "How the disk is doing, or nil for a queue in memory only. On a dirty scheduler: it looks at the files."
  @spec storage(atom()) :: map() | nil | unavailable()
  def storage(_queue), do: err()

  @doc "Waits for all that was handed to the disk before. `:ok` at once for a queue in memory only."
  @spec flush(atom()) :: :ok | storing() | {:error, {:storage, atom()}} | unavailable()
  def flush(_queue), do: err()

  @doc "Ends a wait for the disk. `:delivered`: too late, the message is in the mailbox or on its way."
  @spec cancel_wait(pos_integer()) :: :ok | :delivered
  def cancel_wait(_token), do: err()

  @doc "Whether these bytes may be decoded, if terms from disk may bring at most `most` new atoms into the VM."
  @spec admit_atoms(binary(), non_neg_integer()) :: :ok | :too_many_atoms | :error
  def admit_atoms(_external, _most), do: err()

  defp err, do: :erlang.nif_error(:nif_not_loaded)
end
