defmodule PaymentsApi.Demo.Load do
  @moduledoc """
  Load on `POST /payments`: `wrk` with `priv/load.lua` where it is installed, else `PaymentsApi.Demo.OwnLoad`.

  Both send 256 bytes of JSON with a new UUID each, over connections that stay open, and count the answers on their side of
  the wire, so that the server's count can be checked against a witness.
  """

  alias PaymentsApi.Demo.{OwnLoad, Wrk}

  @connections 64

  @typedoc """
  What the load generator saw: 204s, other answers, failed connections. `cut` is the number of requests that may have been under way when it hung up: the server
  may have accepted that many more than were answered.
  """
  @type report :: %{
          by: String.t(),
          accepted: non_neg_integer(),
          refused: non_neg_integer(),
          broken: non_neg_integer(),
          cut: non_neg_integer()
        }

  @doc "Starts it; the calling process gets `{:load_done, {:ok, report} | {:error, reason}}` at the end."
  @spec start(:inet.port_number(), pos_integer()) :: stop :: (() -> :ok)
  def start(port, seconds) do
    generator = if Wrk.available?(), do: Wrk, else: OwnLoad
    owner = self()
    pid = spawn_link(fn -> generator.run(port, @connections, seconds, &send(owner, {:load_done, &1})) end)
    fn -> send(pid, :stop) && :ok end
  end
end
