# Enqueue, take and settle, one item at a time, with Benchee: `c "bench/round_trip.exs"` in iex -S mix, or
# `mix run bench/round_trip.exs`. See bench/README.md.
Code.require_file("support/benchee_runs.exs", __DIR__)

alias PaymentQueue.Bench.BencheeRuns

BencheeRuns.run("enqueue, take and settle", &BencheeRuns.nothing/3, &BencheeRuns.round_trip/3, 0)
