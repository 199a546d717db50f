defmodule PaymentQueue.Bench.Json do
  @moduledoc """
  Writes JSON. Elixir before 1.18 has none of its own, and a bench that runs from a clean checkout can expect no library.

  Maps (keys are written in their order as text), lists, strings, numbers, `true`, `false` and `nil`.
  """

  @type t :: %{optional(atom() | String.t()) => t()} | [t()] | String.t() | atom() | number()

  @spec encode(t()) :: iodata()
  def encode(nil), do: "null"
  def encode(value) when is_boolean(value), do: Atom.to_string(value)
  def encode(value) when is_atom(value), do: string(Atom.to_string(value))
  def encode(value) when is_binary(value), do: string(value)
  def encode(value) when is_integer(value), do: Integer.to_string(value)
  def encode(value) when is_float(value), do: Float.to_string(value)
  def encode(values) when is_list(values), do: [?[, values |> Enum.map(&encode/1) |> Enum.intersperse(?,), ?]]

  def encode(%{} = map) do
    fields =
      for {key, value} <- Enum.sort_by(map, &to_string(elem(&1, 0))), do: [string(to_string(key)), ?:, encode(value)]

    [?{, Enum.intersperse(fields, ?,), ?}]
  end

  # Also what would end a script element or a line of JavaScript.
  defp string(text), do: [?", Regex.replace(~r/["\\\x00-\x1f<\x{2028}\x{2029}]/u, text, &escape/1), ?"]

  defp escape("\""), do: "\\\""
  defp escape("\\"), do: "\\\\"
  defp escape("\n"), do: "\\n"

  defp escape(<<char::utf8>>) do
    "\\u" <> (char |> Integer.to_string(16) |> String.downcase() |> String.pad_leading(4, "0"))
  end
end
