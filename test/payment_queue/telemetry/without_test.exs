defmodule PaymentQueue.WithoutTelemetryTest do
  # Where `:telemetry` is not on the code path.
  use PaymentQueue.QueueCase, async: true

  alias PaymentQueue.Telemetry

  @moduletag :without_telemetry

  test "workers don't trace, nothing polls, and everything works" do
    queue = queue!(handler: telling(self()), concurrency: 1)

    assert [PaymentQueue.Workers.Gate, PaymentQueue.Workers.Pool] =
             Enum.sort(for {id, _, _, _} <- children(queue), do: id)

    :ok = PaymentQueue.enqueue(1, queue: queue)
    assert_receive {:handled, 1}
    assert Telemetry.Span.settings(PaymentQueue.Supervisor.config(queue)) == nil
    assert :ok = Telemetry.emit_depth(queue)
  end

  defp children(queue), do: Supervisor.which_children(tree(queue))

  test "the default logger says what is missing" do
    assert_raise ArgumentError, ~r/:telemetry is not available/, fn -> Telemetry.attach_default_logger() end
    assert_raise ArgumentError, ~r/:telemetry is not available/, fn -> Telemetry.detach_default_logger() end
  end
end
