# Debian's erlang-proper has no Mix package; it is used where it is on the code path and named as skipped elsewhere.
proper? = Code.ensure_loaded?(:proper)

unless proper? do
  IO.puts("skipped, because erlang-proper is not on the code path: PaymentQueue.ModelTest")
end

ExUnit.start(exclude: if(proper?, do: [], else: [:proper]), capture_log: true, assert_receive_timeout: 5_000)
