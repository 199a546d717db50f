defmodule PaymentQueue.Bench.Wrk do
  @moduledoc "Runs `wrk` and reads what it prints."

  # It shares the machine with what it loads.
  @threads 1

  @type result :: %{
          answered: non_neg_integer(),
          refused: non_neg_integer(),
          broken: non_neg_integer(),
          per_second: float(),
          mean_ms: float(),
          p99_ms: float()
        }

  @spec available?() :: boolean()
  def available?, do: System.find_executable("wrk") != nil

  @doc "POSTs to `/payments` on this port of 127.0.0.1 as the script says."
  @spec run(:inet.port_number(), pos_integer(), pos_integer(), Path.t()) :: result()
  def run(port, connections, seconds, script) do
    args =
      ~w(--latency --timeout 10s --threads #{@threads} --connections #{connections} --duration #{seconds}s) ++
        ["--script", script, "http://127.0.0.1:#{port}/payments", "--", "#{:rand.uniform(0x7FFFFFFF)}"]

    case System.cmd("wrk", args, stderr_to_stdout: true) do
      {output, 0} -> parse!(output)
      {output, status} -> raise "wrk ended with status #{status}: #{String.trim(output)}"
    end
  end

  @doc "The numbers in wrk's report and in the last line of the script."
  @spec parse!(String.t()) :: result()
  def parse!(output) do
    [answered, refused, broken] =
      ~r/^result answered=(\d+) errors=(\d+) broken=(\d+)$/m
      |> capture!(output)
      |> Enum.map(&String.to_integer/1)

    %{
      answered: answered,
      refused: refused,
      broken: broken,
      per_second: ~r/^Requests\/sec:\s+([\d.]+)$/m |> capture!(output) |> hd() |> number(),
      mean_ms: milliseconds(capture!(~r/^\s+Latency\s+([\d.]+)(us|ms|s|m)\s/m, output)),
      p99_ms: milliseconds(capture!(~r/^\s+99%\s+([\d.]+)(us|ms|s|m)$/m, output))
    }
  end

  defp capture!(regex, output) do
    Regex.run(regex, output, capture: :all_but_first) || raise "wrk reported something else: #{String.trim(output)}"
  end

  defp milliseconds([value, unit]) do
    number(value) * Map.fetch!(%{"us" => 0.001, "ms" => 1.0, "s" => 1_000.0, "m" => 60_000.0}, unit)
  end

  defp number(text) do
    {number, ""} = Float.parse(text)
    number
  end
end
