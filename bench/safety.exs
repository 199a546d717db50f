# What safe Rust would cost on the hot path: the same work on terms through rustler's interface and through the few unsafe lines
# of native/payment_queue_nif/src/vm.rs, in alternating rounds. Run with: mix run bench/safety.exs

defmodule PaymentQueue.Bench.SafetyNif do
  @moduledoc false

  def load(path), do: :erlang.load_nif(path, 0)

  for name <- [:rustler_nothing, :rustler_read, :rustler_write, :word_nothing, :word_read, :word_write] do
    def unquote(name)(_first, _second), do: :erlang.nif_error(:nif_not_loaded)
  end
end

defmodule PaymentQueue.Bench.Safety do
  @moduledoc false

  alias PaymentQueue.Bench.SafetyNif

  @calls 200_000
  @rounds 11

  def main do
    load()
    id = "4a7901b8-7d26-4d9d-aa19-4dc1c7cf60b3"
    payment = %{correlationId: id, amount: 1_999}

    IO.puts(
      "OTP #{System.otp_release()}, Elixir #{System.version()}, #{@rounds} alternating rounds of #{@calls} calls, medians\n"
    )

    IO.puts("                                          rustler ns   words ns    ratio")

    compare("a call that does nothing", &SafetyNif.rustler_nothing/2, &SafetyNif.word_nothing/2, id, 1_999, id)
    read = 36 + 1_999
    compare("reading a payment of two fields", &SafetyNif.rustler_read/2, &SafetyNif.word_read/2, payment, 0, read)
    written = {:ok, payment, {1, 2, 3}}
    compare("making {:ok, payment, lease}", &SafetyNif.rustler_write/2, &SafetyNif.word_write/2, id, 1_999, written)
  end

  defp load do
    target = Path.join(Path.dirname(Mix.Project.build_path()), "bench_nif")
    crate = Path.join(__DIR__, "native")
    args = ["build", "--release", "--quiet", "--locked", "--target-dir", target]
    {_, 0} = System.cmd("cargo", args, cd: crate, into: IO.stream())
    :ok = SafetyNif.load(String.to_charlist(Path.join(target, "release/libpayment_queue_bench_nif")))
  end

  # Both ways must give the same answer, and the right one, before either is timed.
  defp compare(what, safe, words, first, second, expected) do
    ^expected = safe.(first, second)
    ^expected = words.(first, second)
    rounds = for _ <- 1..@rounds, do: {time(safe, first, second), time(words, first, second)}
    {safe_ns, words_ns} = {median(for {ns, _} <- rounds, do: ns), median(for {_, ns} <- rounds, do: ns)}
    numbers = :io_lib.format("~11.1f~11.1f~9.2f", [safe_ns, words_ns, safe_ns / words_ns])
    IO.puts(String.pad_trailing(what, 41) <> to_string(numbers))
  end

  defp time(function, first, second) do
    started = System.monotonic_time()
    repeat(function, first, second, @calls)
    System.convert_time_unit(System.monotonic_time() - started, :native, :nanosecond) / @calls
  end

  defp repeat(_function, _first, _second, 0), do: :ok

  defp repeat(function, first, second, n) do
    function.(first, second)
    repeat(function, first, second, n - 1)
  end

  defp median(numbers), do: numbers |> Enum.sort() |> Enum.at(div(length(numbers), 2))
end

PaymentQueue.Bench.Safety.main()
