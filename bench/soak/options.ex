defmodule PaymentQueue.Soak.Options do
  @moduledoc "The command line of `mix payment_queue.soak`."

  alias PaymentQueue.Soak.Kind

  @switches [minutes: :float, seed: :integer, only: :string, help: :boolean]

  @usage """
  usage: bin/soak [--minutes N] [--seed N] [--only KIND]

  Random operations on all kinds of queue at the same time: items in and out, killed workers and trees, changes of scale,
  capacity and rate, pauses, drains, restarts. Every few seconds all comes to rest, and each item that was accepted is
  looked for. Ends at the first law that is broken.

    --minutes N    how long (default 5; 0.3 is possible)
    --seed N       the seed of an earlier run, which repeats its operations; when they meet which process, the machine
                   decides anew each time
    --only KIND    this kind of queue alone; repeat it for several: <kinds>

  Exit status: 0 if every law held, 1 if one was broken, 2 for a wrong option.
  """

  @type t :: %{ms: pos_integer(), seed: non_neg_integer(), kinds: [Kind.t()]}

  @spec usage() :: String.t()
  def usage, do: String.replace(@usage, "<kinds>", names())

  @doc "What the arguments ask for; an error names the argument."
  @spec parse([String.t()]) :: {:run, t()} | :help | {:error, String.t()}
  def parse(argv) do
    case OptionParser.parse(argv, strict: Keyword.replace!(@switches, :only, [:string, :keep]), aliases: [h: :help]) do
      {options, [], []} -> if options[:help], do: :help, else: validate(options)
      {_options, [word | _], _invalid} -> {:error, "unexpected argument #{inspect(word)}"}
      {_options, [], [{switch, value} | _]} -> {:error, wrong(switch, value)}
    end
  end

  defp validate(options) do
    minutes = Keyword.get(options, :minutes, 5.0)
    seed = Keyword.get_lazy(options, :seed, fn -> :rand.uniform(1_000_000_000) end)
    only = Keyword.get_values(options, :only)
    known = Enum.map(Kind.all(), &to_string(&1.name))

    cond do
      minutes <= 0 -> {:error, wrong("--minutes", minutes)}
      seed < 0 -> {:error, wrong("--seed", seed)}
      stranger = Enum.find(only, &(&1 not in known)) -> {:error, wrong("--only", stranger)}
      true -> {:run, %{ms: ceil(minutes * 60_000), seed: seed, kinds: kinds(only)}}
    end
  end

  defp kinds([]), do: Kind.all()
  defp kinds(only), do: Enum.filter(Kind.all(), &(to_string(&1.name) in only))

  defp names, do: Enum.map_join(Kind.all(), ", ", & &1.name)

  defp wrong(switch, nil) when switch in ["--minutes", "--seed", "--only"], do: "#{switch} wants a value"
  defp wrong("--minutes", value), do: "--minutes #{value}: allowed is a number above 0"
  defp wrong("--seed", value), do: "--seed #{value}: allowed is a whole number from 0 on"
  defp wrong("--only", value), do: "--only #{value}: allowed is one of #{names()}"
  defp wrong("--help", value), do: "--help takes no value, got #{inspect(value)}"
  defp wrong(switch, _value), do: "unknown option #{switch}; allowed: --help, --minutes, --only, --seed"
end
