defmodule PaymentsApi.Breaker do
  @moduledoc """
  A circuit breaker per processor: after some failures in a row it is left alone for a while, then one worker tries it.

  Two atomics per processor and no process, since every worker asks before every charge.
  """

  alias PaymentsApi.Ledger

  @trips_after 5
  @rest_ms 250

  # Positions of a processor's two numbers.
  @slots %{default: {1, 2}, fallback: {3, 4}}

  @doc "All closed. Called once, before any worker asks."
  @spec reset() :: :ok
  def reset, do: :persistent_term.put(__MODULE__, :atomics.new(4, signed: true))

  @doc "Whether to try this processor now. While it rests, one caller per rest period is let through to see."
  @spec allow?(Ledger.processor()) :: boolean()
  def allow?(processor) do
    {failures, rests_until} = @slots[processor]
    :atomics.get(atomics(), failures) < @trips_after or probe?(rests_until)
  end

  @spec success(Ledger.processor()) :: :ok
  def success(processor) do
    {failures, _} = @slots[processor]
    # Reading first: on a good day the shared cache line is not written at all.
    if :atomics.get(atomics(), failures) != 0, do: :atomics.put(atomics(), failures, 0)
    :ok
  end

  @spec failure(Ledger.processor()) :: :ok
  def failure(processor) do
    {failures, rests_until} = @slots[processor]

    if :atomics.add_get(atomics(), failures, 1) == @trips_after,
      do: :atomics.put(atomics(), rests_until, now() + @rest_ms)

    :ok
  end

  defp probe?(slot) do
    until = :atomics.get(atomics(), slot)
    # Of all who see that the rest is over, the one whose exchange succeeds goes.
    until <= now() and :atomics.compare_exchange(atomics(), slot, until, now() + @rest_ms) == :ok
  end

  defp atomics, do: :persistent_term.get(__MODULE__)
  defp now, do: System.monotonic_time(:millisecond)
end
