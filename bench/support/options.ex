defmodule PaymentQueue.Bench.Options do
  @moduledoc "The command line of `mix payment_queue.bench`."

  @switches [
    quick: :boolean,
    only: :string,
    rounds: :integer,
    seconds: :float,
    json: :string,
    html: :string,
    list: :boolean,
    help: :boolean
  ]
  @aliases [h: :help]

  @usage """
  usage: mix payment_queue.bench [--quick] [--only NAME] [--json FILE] [--html FILE] [--rounds N] [--seconds S]

  Compares PaymentQueue with the GenServer queue and the ETS queue that it replaces, in one run on this machine.

    --quick        one short round of everything, some minutes: does it work, what is the order of magnitude?
    --only NAME    the table or the cell of that name, or all cells whose name contains it; repeat it for several
    --json FILE    also write the report as JSON (bench/README.md has the schema)
    --html FILE    also write it as one HTML file with charts; needs npm, or Chart.js in the cache from an earlier run
    --rounds N     rounds (5, with --quick 1)
    --seconds S    seconds of a long sample (1.0, with --quick 0.1); shorter ones get less in proportion
    --list         print the names of tables and cells, measure nothing

  Exit status: 0 if all results are right, whatever the speed; 1 if one is wrong; 2 for a wrong option.
  """

  @type t :: %{
          quick: boolean(),
          only: [String.t()],
          rounds: pos_integer() | nil,
          seconds: float() | nil,
          json: Path.t() | nil,
          html: Path.t() | nil
        }

  @spec usage() :: String.t()
  def usage, do: @usage

  @doc "What the arguments ask for; an error names the argument."
  @spec parse([String.t()]) :: {:run, t()} | :list | :help | {:error, String.t()}
  def parse(argv) do
    case OptionParser.parse(argv,
           strict: [{:only, [:string, :keep]} | Keyword.delete(@switches, :only)],
           aliases: @aliases
         ) do
      {options, [], []} -> validate(options)
      {_options, [word | _], _invalid} -> {:error, "unexpected argument #{inspect(word)}"}
      {_options, [], [{switch, value} | _]} -> {:error, wrong(switch, value)}
    end
  end

  defp wrong(switch, value) do
    known = Map.new(@switches, fn {name, type} -> {"--#{name}", type} end)

    case known[switch] do
      nil -> "unknown option #{switch}; allowed: #{known |> Map.keys() |> Enum.sort() |> Enum.join(", ")}"
      :boolean -> "#{switch} takes no value, got #{inspect(value)}"
      _type when value == nil -> "#{switch} wants a value"
      :integer -> "#{switch} #{value}: allowed is a whole number from 1 on"
      _float -> "#{switch} #{value}: allowed is a number above 0"
    end
  end

  defp validate(options) do
    cond do
      options[:help] ->
        :help

      options[:list] ->
        :list

      options[:rounds] && options[:rounds] < 1 ->
        {:error, wrong("--rounds", options[:rounds])}

      options[:seconds] && options[:seconds] <= 0 ->
        {:error, wrong("--seconds", options[:seconds])}

      unwritable = Enum.find([:json, :html], &(options[&1] && not writable?(options[&1]))) ->
        not_there(unwritable, options)

      true ->
        {:run, collect(options)}
    end
  end

  # Half an hour of measuring shall not end in a file that cannot be written.
  defp writable?(path), do: path |> Path.expand() |> Path.dirname() |> File.dir?() and not File.dir?(path)

  defp not_there(name, options),
    do: {:error, "--#{name} #{options[name]}: allowed is a file in a directory that exists"}

  defp collect(options) do
    %{
      quick: Keyword.get(options, :quick, false),
      only: Keyword.get_values(options, :only),
      rounds: options[:rounds],
      seconds: options[:seconds],
      json: options[:json],
      html: options[:html]
    }
  end
end
