defmodule PaymentQueue.JsonReader do
  @moduledoc false
  # Reads what the library has written as JSON, by the newest reader that the platform has.

  @compile {:no_warn_undefined, [JSON, :json, Jason, :jiffy]}

  @doc "The value, with `nil` for null."
  @spec decode!(iodata()) :: term()
  def decode!(json) do
    json = IO.iodata_to_binary(json)

    cond do
      Code.ensure_loaded?(JSON) -> JSON.decode!(json)
      Code.ensure_loaded?(Jason) -> Jason.decode!(json)
      Code.ensure_loaded?(:jiffy) -> :jiffy.decode(json, [:return_maps, :use_nil])
      true -> raise "there is nothing that reads JSON: bin/setup installs erlang-jiffy"
    end
  end
end
