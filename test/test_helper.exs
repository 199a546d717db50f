# Libraries that are no dependencies of the project: their tests run where they are on the code path (ERL_LIBS), and are
# named as skipped elsewhere. By tag: a module of the library, its application, and the tests that need it.
optional = [
  proper: {:proper, :proper, "PaymentQueue.ModelTest"},
  telemetry: {:telemetry, :telemetry, "PaymentQueue.TelemetryTest, PaymentQueue.TelemetryLoggerTest"},
  gen_stage: {GenStage, :gen_stage, "PaymentQueue.GenStageTest"},
  broadway:
    {Broadway, :broadway, "PaymentQueue.BroadwayTest, PaymentQueue.BroadwayKillTest, PaymentQueue.BroadwayGuideTest"}
]

absent =
  for {tag, {module, application, tests}} <- optional, not Code.ensure_loaded?(module) do
    IO.puts("skipped, because #{application} is not on the code path: #{tests}")
    tag
  end

for {tag, {_, application, _}} <- optional, tag not in [:proper | absent] do
  {:ok, _} = Application.ensure_all_started(application)
end

# Where telemetry is there, what happens without it cannot be seen.
without = if :telemetry in absent, do: [], else: [:without_telemetry]
if without != [], do: IO.puts("skipped, because telemetry is on the code path: PaymentQueue.WithoutTelemetryTest")

ExUnit.start(exclude: absent ++ without, capture_log: true, assert_receive_timeout: 5_000)
