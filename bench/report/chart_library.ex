defmodule PaymentQueue.Bench.ChartLibrary do
  @moduledoc """
  Chart.js (MIT), which the HTML report embeds. It is fetched with npm into a cache outside of the repository when the cache
  doesn't have it.
  """

  @package "chart.js"
  @version "4.5.1"
  @file_in_package "dist/chart.umd.js"

  @type t :: %{name: String.t(), licence: String.t(), source: String.t()}

  @doc "The library's text, from the cache or from npm."
  @spec fetch() :: {:ok, t()} | {:error, String.t()}
  def fetch do
    with {:error, :enoent} <- read(), {:ok, _output} <- install() do
      with {:error, reason} <- read(), do: {:error, "--html: #{@package} has no #{@file_in_package}: #{reason}"}
    end
  end

  defp read do
    with {:ok, source} <- File.read(Path.join([cache(), "node_modules", @package, @file_in_package])) do
      {:ok, %{name: "Chart.js #{@version}", licence: "MIT", source: source}}
    end
  end

  defp install do
    File.mkdir_p!(cache())

    with npm when npm != nil <- System.find_executable("npm"),
         args = ["install", "--prefix", cache(), "--no-save", "--ignore-scripts", "#{@package}@#{@version}"],
         {output, 0} <- System.cmd(npm, args, stderr_to_stdout: true) do
      {:ok, output}
    else
      nil ->
        {:error, "--html wants Chart.js, which npm fetches: install npm, or leave --html out"}

      {output, _status} ->
        {:error, "--html: npm could not fetch #{@package}: #{output |> String.trim() |> String.slice(0, 300)}"}
    end
  end

  # A directory for each version, so that a cached one is the right one.
  defp cache do
    base = System.get_env("XDG_CACHE_HOME") || Path.join(System.user_home!(), ".cache")
    Path.join([base, "payment_queue", "#{@package}-#{@version}"])
  end
end
