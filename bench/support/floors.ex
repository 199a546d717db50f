defmodule PaymentQueue.Bench.Floors do
  @moduledoc """
  What no queue in native code could be faster than: the encoding and decoding of the payload in the external term format,
  and a NIF call that does nothing.

  The call is `:crypto.info_fips/0`, a NIF of OTP's own that returns an atom: it is a little cheaper than any of ours could be,
  so the shares that are shown are a little too small rather than too large.
  """

  alias PaymentQueue.Bench.{Crew, Payload, Statistics}

  @slices 10

  @doc "A NIF call that does nothing."
  @spec nif() :: atom()
  def nif, do: :crypto.info_fips()

  @doc """
  Items per second when as many processes as there are producers encode and call the NIF, as many as there are workers decode
  and call it, and nothing passes between them.
  """
  @spec rate(Payload.kind(), producers :: pos_integer(), workers :: pos_integer(), items :: pos_integer()) :: float()
  def rate(kind, producers, workers, items) do
    warm_and_measure(items, fn items ->
      crew(producers, items, fn -> encode_loop(kind) end) ++ crew(workers, items, fn -> decode_loop(kind) end)
    end)
  end

  @doc "The same without the second half."
  @spec encode_rate(Payload.kind(), producers :: pos_integer(), items :: pos_integer()) :: float()
  def encode_rate(kind, producers, items) do
    warm_and_measure(items, fn items -> crew(producers, items, fn -> encode_loop(kind) end) end)
  end

  @doc "ns of one call of a function: the median of slices, so that one descheduling is not taken for its cost."
  @spec nanoseconds((non_neg_integer() -> term()), calls :: pos_integer()) :: float()
  def nanoseconds(function, calls) do
    per_slice = max(div(calls, @slices), 1)

    Statistics.median(
      for _ <- 1..@slices do
        started = System.monotonic_time()
        repeat(function, per_slice)
        System.convert_time_unit(System.monotonic_time() - started, :native, :nanosecond) / per_slice
      end
    )
  end

  defp repeat(_function, 0), do: :ok

  defp repeat(function, n) do
    function.(n)
    repeat(function, n - 1)
  end

  # They share the items as the queue's processes would, to the last one.
  defp crew(processes, items, loop) do
    for number <- 0..(processes - 1) do
      share = div(items + number, processes)

      Crew.member(fn ->
        once = loop.()
        fn -> repeat(once, share) end
      end)
    end
  end

  # A queue's cell warms up before the rounds; a cold floor would be too easy to reach.
  defp warm_and_measure(items, crew) do
    few = div(items, 4) + 1
    per_second(crew.(few), few)
    per_second(crew.(items), items)
  end

  defp per_second(crew, items) do
    started = Crew.go(crew)
    Crew.await_all(crew)
    items * System.convert_time_unit(1, :second, :native) / (System.monotonic_time() - started)
  end

  @doc "A function of an id that builds, encodes and crosses."
  @spec encode_loop(Payload.kind()) :: (Payload.id() -> term())
  def encode_loop(kind) do
    template = Payload.build(kind, 0)

    fn id ->
      nif()
      :erlang.term_to_binary(Payload.with_id(template, id))
    end
  end

  @doc "A function of an id that crosses, decodes and reads the id."
  @spec decode_loop(Payload.kind()) :: (Payload.id() -> term())
  def decode_loop(kind) do
    encoded = :erlang.term_to_binary(Payload.build(kind, 0))

    fn _id ->
      nif()
      Payload.id_of(:erlang.binary_to_term(encoded))
    end
  end
end
