# What the tests use where it is on the code path (ERL_LIBS) or the PATH. Elsewhere the tests that need it are named as
# skipped. By tag: whether it is there, what is missing, the tests, and the application to start.
loaded? = &Code.ensure_loaded?/1

# A full disk is a small tmpfs, and mounting one takes root.
mounts? = fn ->
  dir = Path.join(System.tmp_dir!(), "payment_queue_mount_#{System.pid()}")
  File.mkdir_p!(dir)
  mount = System.find_executable("mount")
  arguments = ["-t", "tmpfs", "-o", "size=1m", "tmpfs", dir]
  mounted? = mount != nil and match?({_, 0}, System.cmd(mount, arguments, stderr_to_stdout: true))
  if mounted?, do: System.cmd("umount", [dir])
  File.rmdir!(dir)
  mounted?
end

optional = [
  proper:
    {loaded?.(:proper), "erlang-proper is not on the code path",
     "PaymentQueue.ModelTest, one test of PaymentQueue.Laws.MigrationTest", nil},
  tmpfs: {mounts?.(), "a tmpfs cannot be mounted here", "PaymentQueue.Durable.DiskTest", nil},
  promtool:
    {System.find_executable("promtool"), "there is no promtool", "one test of PaymentQueue.PrometheusTest", nil},
  plug: {loaded?.(Plug.Builder), "Plug is not on the code path", "PaymentQueue.PlugTest", nil},
  bandit: {loaded?.(Bandit), "Bandit is not on the code path", "PaymentQueue.BanditTest", nil},
  live_dashboard:
    {loaded?.(Phoenix.LiveDashboard.PageBuilder), "Phoenix LiveDashboard is not on the code path",
     "PaymentQueue.LiveDashboardPageTest", nil},
  telemetry:
    {loaded?.(:telemetry), "telemetry is not on the code path",
     "PaymentQueue.TelemetryTest, PaymentQueue.TelemetryLoggerTest, two tests of each PaymentQueue.ConformanceTest",
     :telemetry},
  gen_stage: {loaded?.(GenStage), "GenStage is not on the code path", "PaymentQueue.GenStageTest", :gen_stage},
  broadway:
    {loaded?.(Broadway), "Broadway is not on the code path",
     "PaymentQueue.BroadwayTest, PaymentQueue.BroadwayKillTest, PaymentQueue.BroadwayGuideTest, one test of each " <>
       "PaymentQueue.ConformanceTest", :broadway},
  nats:
    {PaymentQueue.NatsServer.program() != nil,
     "there is no nats-server 2.10.27 or newer (bin/setup fetches one; NATS_SERVER names one)",
     "PaymentQueue.ConformanceTest (nats), the tests of PaymentQueue.Nats, one test of PaymentQueue.SoakTest", nil},
  # Where telemetry is there, what happens without it cannot be seen.
  without_telemetry:
    {not loaded?.(:telemetry), "telemetry is on the code path", "PaymentQueue.WithoutTelemetryTest", nil}
]

{found, missing} = Enum.split_with(optional, fn {_tag, {there, _why, _tests, _application}} -> there end)

for {_tag, {_there, why, tests, _application}} <- missing, do: IO.puts("skipped, because #{why}: #{tests}")

for {_tag, {_there, _why, _tests, application}} when application != nil <- found,
    do: {:ok, _} = Application.ensure_all_started(application)

ExUnit.start(exclude: [:long | Keyword.keys(missing)], capture_log: true, assert_receive_timeout: 5_000)
