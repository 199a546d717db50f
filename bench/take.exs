# Take and settle with Benchee: `c "bench/take.exs"` in iex -S mix, or `mix run bench/take.exs`. See bench/README.md.
Code.require_file("support/benchee_runs.exs", __DIR__)

alias PaymentQueue.Bench.BencheeRuns

BencheeRuns.run("take and settle", &BencheeRuns.put/3, &BencheeRuns.take/3, 0)
