# The whole way of an item beside the replaced queues, in short: the cells of `mix payment_queue.bench` that the README starts
# with. Run with: mix run bench/e2e.exs [--quick] [--rounds N] [--seconds S]

for name <- ["map 1+1", "map 4+4", "256 B 1+1", "256 B 4+4", "memory queued map", "wake-up", "depth 1 M"] do
  Mix.Task.reenable("payment_queue.bench")
  Mix.Task.run("payment_queue.bench", ["--only", name | System.argv()])
end
