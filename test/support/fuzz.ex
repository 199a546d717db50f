defmodule PaymentQueue.Fuzz do
  @moduledoc false
  # Random terms and bytes. By the process's random numbers, which ExUnit seeds for each test: `mix test --seed N` repeats a run.

  @doc "Any term, nested at most `depth` deep."
  @spec term(non_neg_integer()) :: term()
  def term(depth \\ 4)

  def term(depth) do
    case below(if(depth == 0, do: 9, else: 16)) do
      0 -> below(300) - 150
      1 -> number()
      2 -> :rand.uniform() * 10 ** (below(40) - 20)
      3 -> Enum.random([nil, true, :a, :"", :日本, :payment_queue, Enum, :"not an alias"])
      4 -> bytes(20)
      5 -> bytes(3_000)
      6 -> <<below(32)::size(below(5) + 1)>>
      7 -> Enum.random([self(), make_ref(), &String.upcase/1, fn -> depth end])
      8 -> Enum.random([[], {}, %{}, "", 0, -0.0])
      9 -> [term(depth - 1) | term(depth - 1)]
      n when n in [10, 11] -> terms(depth)
      12 -> List.to_tuple(terms(depth))
      n -> Map.new(terms(depth), &{&1, term(rem(n, depth))})
    end
  end

  @doc "Some terms."
  @spec terms(non_neg_integer()) :: [term()]
  def terms(depth), do: for(_ <- 1..below(if(below(20) == 0, do: 60, else: 6))//1, do: term(depth - 1))

  @doc "An integer around a power of two: where formats have their edges."
  @spec number() :: integer()
  def number, do: Enum.random([1, -1]) * 2 ** below(130) + below(3) - 1

  @doc "At most so many random bytes."
  @spec bytes(non_neg_integer()) :: binary()
  def bytes(max), do: :rand.bytes(below(max + 1))

  @doc "The bytes with something wrong: cut, a bit flipped, a byte changed, bytes put in, left out or repeated."
  @spec damage(binary()) :: binary()
  def damage(bytes) do
    at = below(byte_size(bytes) + 1)
    {before, rest} = {binary_part(bytes, 0, at), binary_part(bytes, at, byte_size(bytes) - at)}

    case {below(6), rest} do
      {0, _} -> before
      {1, <<byte, rest::binary>>} -> [before, Bitwise.bxor(byte, Bitwise.bsl(1, below(8))), rest]
      {2, <<_, rest::binary>>} -> [before, Enum.random([0, 1, 127, 128, 255, below(256)]), rest]
      {3, <<_, rest::binary>>} -> [before, rest]
      {4, _} -> [before, bytes(4), rest]
      _ -> [before, binary_part(bytes, 0, min(at, 8)), rest]
    end
    |> IO.iodata_to_binary()
  end

  @doc "A number from 0 to n - 1."
  @spec below(pos_integer()) :: non_neg_integer()
  def below(n), do: :rand.uniform(n) - 1
end
