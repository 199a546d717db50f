defmodule PaymentQueue.Reason do
  @moduledoc false
  # Why an item failed: kept with it as bytes, bounded, because a thousand dead letters must not hold a thousand state
  # dumps; and shown in logs without the payload, because payments don't belong there.

  @max_bytes 4_096
  @max_text 200
  @max_message 1_000
  @max_depth 4

  @doc "The reason as bytes, at most 4 KiB: a longer one is replaced by the beginning of its `inspect/2`."
  @spec encode(term()) :: binary()
  def encode(reason) do
    case :erlang.term_to_binary(reason) do
      bytes when byte_size(bytes) <= @max_bytes -> bytes
      _ -> reason |> inspect(limit: 50, printable_limit: 1_000) |> truncate(@max_bytes - 64) |> :erlang.term_to_binary()
    end
  end

  @doc "The reason out of its bytes, which may come from disk; `{:undecodable, bytes}` for one that may not be decoded."
  @spec decode(binary()) :: term()
  def decode(bytes), do: PaymentQueue.Durable.Decoding.decode!(bytes)

  @doc """
  One line about the reason for the log. Shown in full: atoms, numbers, short texts, and tuples and short lists of such.
  Reduced to their shape: maps, structs, long lists and binaries, and whatever equals one of the `secrets` (payloads).
  """
  @spec describe(term(), [term()]) :: String.t()
  def describe(reason, secrets \\ [])

  def describe({kind, value, stack}, secrets) when kind in [:error, :exit, :throw] and is_list(stack),
    do: "#{banner(kind, value, secrets)}#{where(stack)}"

  def describe(reason, secrets), do: shape(reason, secrets, @max_depth)

  @doc """
  The reason as a term that others may report: of the same kind, so that an exception stays one and a tuple can be matched,
  but with a description in place of every part that `describe/2` would not show.
  """
  @spec redact(term(), [term()]) :: term()
  def redact(reason, secrets), do: redact(reason, secrets, @max_depth)

  defp redact(term, _, _) when is_atom(term) or is_number(term) or is_pid(term) or is_reference(term), do: term

  defp redact(%{__exception__: true} = error, secrets, depth) do
    error
    |> Map.from_struct()
    |> Map.delete(:__exception__)
    |> Enum.reduce(error, fn {field, value}, error -> Map.put(error, field, redact(value, secrets, depth - 1)) end)
  end

  defp redact(term, secrets, depth) when is_tuple(term) and tuple_size(term) <= 5 and depth > 0 do
    if secret?(secrets, term),
      do: shape(term, secrets, depth),
      else: term |> Tuple.to_list() |> Enum.map(&redact(&1, secrets, depth - 1)) |> List.to_tuple()
  end

  defp redact([_ | _] = term, secrets, depth) when depth > 0 do
    if secret?(secrets, term) or List.improper?(term) or length(term) > 5,
      do: shape(term, secrets, depth),
      else: Enum.map(term, &redact(&1, secrets, depth - 1))
  end

  defp redact([], _, _), do: []

  defp redact(term, secrets, _) when is_binary(term) do
    if not secret?(secrets, term) and byte_size(term) <= @max_message and String.printable?(term),
      do: term,
      else: shape(term, secrets, @max_depth)
  end

  defp redact(term, secrets, depth), do: shape(term, secrets, depth)

  @doc "A stack trace as it may be kept: at most ten entries, arities instead of arguments (those hold the payload)."
  @spec stack(Exception.stacktrace()) :: Exception.stacktrace()
  def stack(stacktrace) do
    stacktrace
    |> Enum.take(10)
    |> Enum.map(fn
      {m, f, args, location} when is_list(args) -> {m, f, length(args), location}
      {f, args, location} when is_list(args) -> {f, length(args), location}
      entry -> entry
    end)
  end

  # An exception that carries a text was given it by whoever raised it. The VM's own (KeyError, MatchError, ...) carry
  # the offending term instead, which most often is the payload.
  defp banner(:error, error, secrets) do
    case Exception.normalize(:error, error) do
      %UndefinedFunctionError{module: m, function: f, arity: a} when is_integer(a) ->
        "UndefinedFunctionError: #{Exception.format_mfa(m, f, a)}"

      %FunctionClauseError{module: m, function: f, arity: a} when is_integer(a) ->
        "FunctionClauseError: #{Exception.format_mfa(m, f, a)}"

      %name{message: text} when is_binary(text) ->
        "#{inspect(name)}: #{if secret?(secrets, text), do: "(the payload)", else: truncate(text, @max_message)}"

      %name{} ->
        inspect(name)
    end
  end

  defp banner(kind, value, secrets), do: "#{kind}: #{shape(value, secrets, @max_depth)}"

  defp where([]), do: ""
  defp where(stack), do: "\n" <> Exception.format_stacktrace(stack(stack))

  defp shape(term, secrets, depth),
    do: if(secret?(secrets, term), do: "(the payload)", else: shape_of(term, secrets, depth))

  # Small numbers and atoms are no secrets, and would blank out half of every reason.
  defp secret?(_, term) when is_atom(term) or is_number(term), do: false
  defp secret?(secrets, term) when is_binary(term), do: Enum.any?(secrets, &(contained?(&1, term) or &1 === term))
  defp secret?(secrets, term), do: Enum.any?(secrets, &(&1 === term))

  defp contained?(secret, text), do: is_binary(secret) and byte_size(secret) > 3 and String.contains?(text, secret)

  defp shape_of(term, _, _) when is_atom(term) or is_number(term) or is_pid(term) or is_reference(term),
    do: inspect(term)

  defp shape_of(term, _, _) when is_binary(term) do
    if byte_size(term) <= @max_text and String.printable?(term), do: inspect(term), else: "binary(#{byte_size(term)})"
  end

  defp shape_of(term, secrets, depth) when is_tuple(term) and tuple_size(term) <= 5 and depth > 0,
    do: "{" <> Enum.map_join(Tuple.to_list(term), ", ", &shape(&1, secrets, depth - 1)) <> "}"

  defp shape_of(term, _, _) when is_tuple(term), do: "tuple(#{tuple_size(term)})"
  defp shape_of(%name{}, _, _) when is_atom(name), do: "%#{inspect(name)}{...}"
  defp shape_of(term, _, _) when is_map(term), do: "map(#{map_size(term)})"

  defp shape_of(term, secrets, depth) when is_list(term) do
    cond do
      List.improper?(term) -> "improper list"
      length(term) <= 5 and depth > 0 -> "[" <> Enum.map_join(term, ", ", &shape(&1, secrets, depth - 1)) <> "]"
      true -> "list(#{length(term)})"
    end
  end

  defp shape_of(term, _, _) when is_function(term), do: "function"
  defp shape_of(_, _, _), do: "term"

  # On a character boundary: half a character would not be a string.
  defp truncate(text, max) when byte_size(text) <= max, do: text

  defp truncate(text, max) do
    cut = binary_part(text, 0, max)
    if String.valid?(cut), do: cut <> "...", else: truncate(text, max - 1)
  end
end
