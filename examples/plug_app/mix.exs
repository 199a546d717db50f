defmodule PlugApp.MixProject do
  use Mix.Project

  def project do
    [
      app: :plug_app,
      version: "0.1.0",
      elixir: "~> 1.14",
      elixirc_paths: elixirc_paths(Mix.env()),
      # Keeps libraries visible that come by way of ERL_LIBS.
      prune_code_paths: false,
      start_permanent: Mix.env() == :prod,
      deps: [{:payment_queue, path: "../.."} | libraries()]
    ]
  end

  # All that is called by name: libraries on the library path are no dependencies that Mix would add by itself.
  @applications [:logger, :plug, :plug_crypto, :bandit, :thousand_island, :jason, :telemetry]

  def application do
    [mod: {PlugApp.Application, []}, extra_applications: @applications]
  end

  defp elixirc_paths(:test), do: ["lib", "test/support"]
  defp elixirc_paths(_env), do: ["lib"]

  # From Hex; where that cannot be reached, compiled ones on Erlang's library path do: ERL_LIBS=/some/lib mix test
  defp libraries do
    if Enum.all?([Plug, Bandit, Jason], &Code.ensure_loaded?/1),
      do: [],
      else: [{:plug, "~> 1.16"}, {:bandit, "~> 1.5"}, {:jason, "~> 1.4"}]
  end
end
