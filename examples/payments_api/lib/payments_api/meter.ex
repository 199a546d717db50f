defmodule PaymentsApi.Meter do
  @moduledoc """
  What the demo counts while it runs: one atomic addition per event, from any process.

  | counter | is raised |
  |---|---|
  | `:started`, `:finished` | around every HTTP request; equal when none is being answered |
  | `:accepted`, `:accepted_cents` | when `enqueue` said `:ok`, before the 204 is sent |
  | `:refused` | when `enqueue` refused and a 503 is sent |
  | `:rejected` | when a `POST /payments` was answered 400 or 413 |
  | `:settled` | when a worker has paid a payment for the first time |
  | `:retries` | when a handler takes up a payment that it had returned an error for |
  | `:again` | when a payment is handled again because its worker died |
  | `:deduplicated` | when a gateway answers that our own earlier attempt has charged already |
  | `:repeated`, `:repeated_cents` | when it answers so because the client sent one `correlationId` twice |
  | `:overlapped` | when two live workers handle one payment: must stay 0 |
  | `:redelivered` | when a payment comes back after its ack: must stay 0 |
  | `:kills` | when the demo kills a worker |
  """

  alias PaymentsApi.Histogram

  @counters [
    :started,
    :finished,
    :accepted,
    :accepted_cents,
    :refused,
    :rejected,
    :settled,
    :retries,
    :again,
    :deduplicated,
    :repeated,
    :repeated_cents,
    :overlapped,
    :redelivered,
    :kills
  ]

  @doc "Starts from zero. Called once, before anything counts."
  @spec reset() :: :ok
  def reset do
    :persistent_term.put(
      __MODULE__,
      {:counters.new(length(@counters), [:write_concurrency]), Histogram.new()}
    )
  end

  @spec add(atom(), integer()) :: :ok
  def add(name, n \\ 1)

  for {name, index} <- Enum.with_index(@counters, 1) do
    def add(unquote(name), n), do: :counters.add(counters(), unquote(index), n)
  end

  @spec get(atom()) :: integer()
  for {name, index} <- Enum.with_index(@counters, 1) do
    def get(unquote(name)), do: :counters.get(counters(), unquote(index))
  end

  @doc "All counters by name."
  @spec all() :: %{atom() => integer()}
  def all, do: Map.new(@counters, &{&1, get(&1)})

  @doc "Records how long a `POST /payments` took, in microseconds."
  @spec latency(integer()) :: :ok
  def latency(microseconds), do: Histogram.record(histogram(), microseconds)

  @spec latencies() :: Histogram.snapshot()
  def latencies, do: Histogram.snapshot(histogram())

  defp counters, do: elem(:persistent_term.get(__MODULE__), 0)
  defp histogram, do: elem(:persistent_term.get(__MODULE__), 1)
end
