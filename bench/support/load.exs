# Loads the support of the benches, in the order of their dependencies; also in the fresh VMs of the memory cells.
for file <- ~w(
      statistics.exs machine.exs cell.exs payload.exs tally.exs adapter.exs
      adapters/polling.exs adapters/gen_server.exs adapters/ets.exs adapters/native.exs
      throughput.exs wake_up.exs depth.exs memory.exs
      report.exs runner.exs
    ) do
  Code.require_file(file, __DIR__)
end
