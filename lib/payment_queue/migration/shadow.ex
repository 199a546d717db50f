defmodule PaymentQueue.Migration.Shadow do
  @moduledoc false
  # Where the copies of shadow mode go: a queue of its own, with the settings of the real one, whose one worker throws them
  # away. The application's handler is unknown to it, so a copy cannot be handled; nor can copies pile up.

  alias PaymentQueue.Migration.Route
  alias PaymentQueue.{Native, Operations}

  @doc "The child that takes the copies; the real queue has to exist."
  @spec child_spec(Route.t()) :: Supervisor.child_spec()
  def child_spec(%{queue: queue, shadow: shadow}) do
    {capacity, max_bytes, max_payload_bytes, _, _} = queue |> Native.settings() |> Operations.known!(queue)

    PaymentQueue.child_spec(
      name: shadow,
      capacity: capacity,
      max_bytes: max_bytes,
      max_payload_bytes: max_payload_bytes,
      handler: {__MODULE__, :discard, []},
      batch: [size: 100],
      concurrency: 1
    )
  end

  @doc "The handler of the copies."
  @spec discard([term()]) :: :ok
  def discard(_copies), do: :ok
end
