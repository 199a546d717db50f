# What the tests use where it is on the code path or the PATH. Elsewhere the tests that need it are named as skipped.
optional = [
  proper: {Code.ensure_loaded?(:proper), "erlang-proper is not on the code path", ["PaymentQueue.ModelTest"]},
  promtool: {System.find_executable("promtool"), "there is no promtool", ["one test of PaymentQueue.PrometheusTest"]},
  plug: {Code.ensure_loaded?(Plug.Builder), "Plug is not on the code path", ["PaymentQueue.PlugTest"]},
  bandit: {Code.ensure_loaded?(Bandit), "Bandit is not on the code path", ["PaymentQueue.BanditTest"]},
  live_dashboard:
    {Code.ensure_loaded?(Phoenix.LiveDashboard.PageBuilder), "Phoenix LiveDashboard is not on the code path",
     ["PaymentQueue.LiveDashboardPageTest"]}
]

missing =
  for {tag, {found, why, tests}} <- optional, !found do
    IO.puts("skipped, because #{why}: #{Enum.join(tests, ", ")}")
    tag
  end

ExUnit.start(exclude: missing, capture_log: true, assert_receive_timeout: 5_000)
