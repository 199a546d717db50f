defmodule PaymentsApi.Demo.Options do
  @moduledoc """
  The command line of `bin/demo`, which itself answers `--help`.

    * `--seconds N`: put load on the API for so long, then drain and end; without it, serve until a signal
    * `--port P`: listen there (default: a free port)
    * `--queue NAME`: see `PaymentsApi.Queue.names/0`
  """

  alias PaymentsApi.Queue

  @type t :: %{seconds: pos_integer() | nil, port: :inet.port_number(), queue: String.t()}

  @switches [seconds: :string, port: :string, queue: :string]
  @max_seconds 3_600

  @spec parse([String.t()]) :: {:ok, t()} | {:error, String.t()}
  def parse(argv) do
    case OptionParser.parse(argv, strict: @switches) do
      {switches, [], []} -> validate(switches)
      {_switches, [extra | _], _invalid} -> {:error, "unexpected argument #{inspect(extra)}"}
      {_switches, [], [{flag, _value} | _]} -> {:error, wrong(flag)}
    end
  end

  # Values are read as text, so only a missing one or a strange name gets here.
  defp wrong(flag) do
    known = for {name, _type} <- @switches, do: "--#{name}"
    if flag in known, do: "#{flag} wants a value", else: "unknown option #{flag}; allowed: #{Enum.join(known, ", ")}"
  end

  defp validate(switches) do
    with {:ok, seconds} <- integer(switches, :seconds, 1..@max_seconds, nil),
         {:ok, port} <- integer(switches, :port, 1..65_535, 0),
         {:ok, queue} <- one_of(switches, :queue, Queue.names(), "native") do
      {:ok, %{seconds: seconds, port: port, queue: queue}}
    end
  end

  defp integer(switches, name, first..last, default) do
    case switches[name] && Integer.parse(switches[name]) do
      nil -> {:ok, default}
      {n, ""} when n in first..last -> {:ok, n}
      _other -> {:error, "--#{name} #{switches[name]}: allowed is a whole number from #{first} to #{last}"}
    end
  end

  defp one_of(switches, name, allowed, default) do
    value = Keyword.get(switches, name, default)

    if value in allowed,
      do: {:ok, value},
      else: {:error, "--#{name} #{value}: allowed is one of #{Enum.join(allowed, ", ")}"}
  end
end
