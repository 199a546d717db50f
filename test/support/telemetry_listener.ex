defmodule PaymentQueue.TelemetryListener do
  @moduledoc false
  # Sends the events of one queue to the test: handlers are global, and tests run at the same time.

  @doc "Listens until the test ends. Events come as `{[category, event], measurements, metadata}`."
  def listen(queue) do
    id = {__MODULE__, queue}
    :ok = apply(:telemetry, :attach_many, [id, PaymentQueue.Telemetry.events(), &__MODULE__.forward/4, {self(), queue}])
    ExUnit.Callbacks.on_exit(fn -> apply(:telemetry, :detach, [id]) end)
    queue
  end

  @doc false
  def forward([:payment_queue | event], measurements, %{queue: queue} = metadata, {test, queue}),
    do: send(test, {event, measurements, metadata})

  def forward(_event, _measurements, _metadata, _config), do: :ok
end
