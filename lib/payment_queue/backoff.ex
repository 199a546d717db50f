defmodule PaymentQueue.Backoff do
  @moduledoc """
  How long an item waits before it is tried again.

  The option `backoff:` of `PaymentQueue.start_link/1` is one of

    * `[min: 100, max: 60_000, jitter: 0.2]`: after attempt `n` fails, the delay is `min * 2^(n - 1)` ms, at most `max`,
      shortened by a random share of up to `jitter` (0.0 to 1.0), so that items that failed together don't come back
      together. Keys left out have these defaults.
    * a function of the attempt that failed (1, 2, ...), which returns milliseconds. If it raises or returns anything
      else, the default backoff is used for that item and an error is logged.
  """

  require Logger

  @enforce_keys [:min, :max, :jitter]
  defstruct [:min, :max, :jitter]

  @typedoc "A validated backoff."
  @opaque t :: %__MODULE__{min: non_neg_integer(), max: non_neg_integer(), jitter: number()} | (pos_integer() -> term())

  @defaults [min: 100, max: 60_000, jitter: 0.2]
  @max_ms 4_294_967_295
  # 2^32 times one millisecond is over the longest delay; a larger exponent would only make big integers.
  @max_shift 32

  @doc false
  @spec new(term()) :: {:ok, t()} | {:error, String.t()}
  def new(fun) when is_function(fun, 1), do: {:ok, fun}

  def new(opts) do
    with true <- Keyword.keyword?(opts),
         [] <- Keyword.keys(opts) -- Keyword.keys(@defaults),
         %{min: min, max: max, jitter: jitter} = fields <- Map.new(Keyword.merge(@defaults, opts)),
         true <- is_integer(min) and min >= 0 and is_integer(max) and max >= min and max <= @max_ms,
         true <- is_number(jitter) and jitter >= 0 and jitter <= 1 do
      {:ok, struct!(__MODULE__, fields)}
    else
      _ ->
        {:error,
         "[min: ms, max: ms, jitter: 0.0..1.0] with 0 <= min <= max <= #{@max_ms} (defaults #{inspect(@defaults)}), " <>
           "or a function of the attempt"}
    end
  end

  @doc """
  The delay in milliseconds after the attempt that failed.

      iex> {:ok, backoff} = PaymentQueue.Backoff.new(min: 100, max: 1_000, jitter: 0)
      iex> Enum.map(1..5, &PaymentQueue.Backoff.delay(backoff, &1))
      [100, 200, 400, 800, 1000]
  """
  @spec delay(t(), pos_integer()) :: non_neg_integer()
  def delay(%__MODULE__{min: min, max: max, jitter: jitter}, attempt) do
    full = min(max, Bitwise.bsl(min, min(attempt - 1, @max_shift)))
    if jitter == 0, do: full, else: round(full * (1 - jitter * :rand.uniform()))
  end

  def delay(fun, attempt) when is_function(fun, 1) do
    case fun.(attempt) do
      ms when is_integer(ms) and ms >= 0 and ms <= @max_ms -> ms
      other -> fallback(attempt, "returned #{inspect(other, limit: 5)}")
    end
  catch
    kind, reason -> fallback(attempt, "failed: " <> Exception.format_banner(kind, reason))
  end

  # A broken function must neither lose the item nor make it spin.
  defp fallback(attempt, what) do
    Logger.error("PaymentQueue: the backoff function #{what} for attempt #{attempt}; using the default backoff")
    delay(struct!(__MODULE__, @defaults), attempt)
  end
end
