defmodule PaymentQueue.JSON do
  @moduledoc false
  # JSON by whatever the host has: Elixir's JSON (1.18), Erlang's json (OTP 27), Jason or jiffy. The library has no
  # dependency, and escaping text is not for everybody to write again. Only the brackets are ours, because the order of an
  # object's fields is part of some answers, and each library has another way to say it.

  @libraries [JSON, :json, Jason, :jiffy]

  @type value :: nil | boolean() | number() | atom() | String.t() | [value()] | keyword() | %{atom() => value()}

  @doc "Keyword lists and maps become objects, the former in their order. Text that is no UTF-8 is shown by `inspect/1`."
  @spec encode!(value()) :: iodata()
  def encode!(value), do: encode(value, library!())

  @doc "The library in use. Raises `ArgumentError` where there is none."
  @spec library!() :: module()
  def library! do
    case :persistent_term.get(__MODULE__, nil) do
      nil -> find!()
      library -> library
    end
  end

  # Once: to look for a module that is not there means to look through every folder on the code path, milliseconds.
  defp find! do
    library = Enum.find(@libraries, &Code.ensure_loaded?/1) || none!()
    :persistent_term.put(__MODULE__, library)
    library
  end

  @spec none!() :: no_return()
  defp none! do
    raise ArgumentError,
          "PaymentQueue found no JSON library; it uses one of #{Enum.map_join(@libraries, ", ", &inspect/1)}: " <>
            "update to Elixir 1.18 or OTP 27, or add Jason to your application's dependencies"
  end

  defp encode([{key, _} | _] = object, library) when is_atom(key), do: object(object, library)
  defp encode(%{} = map, library), do: map |> Enum.sort() |> object(library)
  defp encode(list, library) when is_list(list), do: [?[, list |> Enum.map(&encode(&1, library)) |> join(), ?]]
  defp encode(nil, _library), do: "null"
  defp encode(value, _library) when is_boolean(value) or is_integer(value), do: to_string(value)
  defp encode(value, library) when is_atom(value), do: encode(Atom.to_string(value), library)
  defp encode(value, library) when is_float(value), do: leaf(library, value)

  defp encode(text, library) when is_binary(text),
    do: leaf(library, if(String.valid?(text), do: text, else: inspect(text)))

  defp object(fields, library) do
    [?{, fields |> Enum.map(fn {key, value} -> [encode(key, library), ?:, encode(value, library)] end) |> join(), ?}]
  end

  defp join(parts), do: Enum.intersperse(parts, ?,)

  defp leaf(JSON, value), do: JSON.encode_to_iodata!(value)
  defp leaf(:json, value), do: :json.encode(value)
  defp leaf(Jason, value), do: Jason.encode_to_iodata!(value)
  defp leaf(:jiffy, value), do: :jiffy.encode(value)
end
