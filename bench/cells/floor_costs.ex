defmodule PaymentQueue.Bench.FloorCosts do
  @moduledoc "The floors themselves: an idle NIF call, and encoding and decoding each kind of payload, by one process."

  alias PaymentQueue.Bench.{Cell, Floors, Payload}

  @kinds [:map, :json, :binary, :binary_4k, :binary_64k]

  @doc "A cell of so many calls of each; a tenth of that for the longest payloads."
  @spec cell(calls :: pos_integer()) :: Cell.t()
  def cell(calls) do
    %Cell{
      name: "floors",
      table: :floors,
      rows:
        [Cell.row("NIF call that does nothing", "ns", :lower)] ++
          for(kind <- @kinds, do: Cell.row("encode + decode #{Payload.title(kind)}", "ns", :lower)),
      adapters: [],
      measure: fn _none, _nothing -> [] end,
      floor: %{name: "alone", measure: fn -> [nif(calls) | Enum.map(@kinds, &codec(&1, calls))] end}
    }
  end

  defp nif(calls), do: Floors.nanoseconds(fn _ -> Floors.nif() end, calls)

  defp codec(kind, calls) do
    payload = Payload.build(kind, 1)
    calls = if kind == :binary_64k, do: div(calls, 10), else: calls
    Floors.nanoseconds(fn _ -> payload |> :erlang.term_to_binary() |> :erlang.binary_to_term() end, calls)
  end
end
