defmodule PaymentQueue.TelemetryLoggerTest do
  # Not at the same time as others: the logger hears of every queue, and others look at what is logged.
  use PaymentQueue.QueueCase, async: false

  import ExUnit.CaptureLog
  import PaymentQueue.TelemetryListener

  alias PaymentQueue.{JsonReader, Telemetry}

  @moduletag :telemetry
  @compile {:no_warn_undefined, [:telemetry]}

  setup do
    on_exit(fn -> :telemetry.detach("payment_queue-default-logger") end)
  end

  test "writes a line for each event, without the payload, and can be taken off again" do
    queue = new_name()
    listen(queue)

    log =
      capture_log(fn ->
        assert :ok = Telemetry.attach_default_logger(:error)
        assert {:error, :already_exists} = Telemetry.attach_default_logger()
        queue!(name: queue, handler: fn _ -> {:error, :busy} end, max_attempts: 1, concurrency: 1)
        :ok = PaymentQueue.enqueue("4111 1111", queue: queue)
        assert_receive {[:item, :exception], _, _}
        # The logger was attached after us, and is called after us.
        eventually(fn -> PaymentQueue.info(queue).dead == 1 end)
        PaymentQueue.pause(queue)
        assert :ok = Telemetry.detach_default_logger()
        assert {:error, :not_found} = Telemetry.detach_default_logger()
        PaymentQueue.resume(queue)
      end)

    assert log =~ ~s(source: "payment_queue")
    assert log =~ ~s(event: "item:start")
    assert log =~ ~s(event: "item:exception")
    assert log =~ ~s(error: ":busy")
    assert log =~ ~s(state: "discard")
    assert log =~ ~s(event: "queue:paused")
    refute log =~ "queue:resumed"
    refute log =~ "4111"
  end

  test "writes JSON where there is a library for it, and says so where not" do
    if Enum.any?([JSON, :json, Jason, :jiffy], &Code.ensure_loaded?/1) do
      queue = queue!(capacity: 1)

      log =
        capture_log(fn ->
          :ok = Telemetry.attach_default_logger(level: :error, events: [:enqueue], encode: true)
          :ok = PaymentQueue.enqueue(1, queue: queue)
          {:error, :queue_full} = PaymentQueue.enqueue(1, queue: queue)
        end)

      assert [json] = Regex.run(~r/\{.*"enqueue:refused".*\}/, log)
      assert %{"queue" => name, "reason" => "queue_full", "count" => 1} = JsonReader.decode!(json)
      assert name == to_string(queue)
    else
      assert_raise ArgumentError, ~r/JSON/, fn -> Telemetry.attach_default_logger(encode: true) end
    end
  end

  test "wants telemetry to be started, and says so" do
    on_exit(fn -> {:ok, _} = Application.ensure_all_started(:telemetry) end)
    capture_log(fn -> :ok = Application.stop(:telemetry) end)
    assert_raise ArgumentError, ~r/:telemetry is not started/, fn -> Telemetry.attach_default_logger() end
    assert_raise ArgumentError, ~r/:telemetry is not started/, fn -> Telemetry.detach_default_logger() end
  end

  test "names itself where an option is wrong" do
    message = ~r/unknown option :evnts for PaymentQueue.Telemetry.attach_default_logger. Did you mean :events\?/
    assert_raise ArgumentError, message, fn -> Telemetry.attach_default_logger(evnts: [:item]) end
  end
end
