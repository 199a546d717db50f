# Enqueue with Benchee: `c "bench/enqueue.exs"` in iex -S mix, or `mix run bench/enqueue.exs`. See bench/README.md.
Code.require_file("support/benchee_runs.exs", __DIR__)

alias PaymentQueue.Bench.BencheeRuns

BencheeRuns.run("enqueue", &BencheeRuns.nothing/3, &BencheeRuns.put/3, BencheeRuns.batch())
