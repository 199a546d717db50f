defmodule PaymentsApi.MixProject do
  use Mix.Project

  def project do
    [
      app: :payments_api,
      version: "0.1.0",
      elixir: "~> 1.14",
      elixirc_paths: elixirc_paths(Mix.env()),
      # mochiweb and jiffy come from the operating system's packages, not from Hex: keep OTP's library path visible.
      prune_code_paths: false,
      start_permanent: false,
      deps: deps()
    ]
  end

  def application do
    require_system_library(:mochiweb, :mochiweb_http, "erlang-mochiweb")
    require_system_library(:jiffy, :jiffy, "erlang-jiffy")
    [extra_applications: [:logger, :mochiweb, :jiffy]]
  end

  defp deps do
    [{:payment_queue, path: "../.."}]
  end

  # The two replaced queues live beside the benches; the demo runs the same API over them for comparison.
  defp elixirc_paths(:test), do: ["test/support" | elixirc_paths(:dev)]
  defp elixirc_paths(_env), do: ["lib", Path.expand("../../bench/baseline", __DIR__)]

  defp require_system_library(app, module, package) do
    unless Code.ensure_loaded?(module) do
      Mix.raise("#{app} is not on Erlang's library path: install the package #{package}, or run bin/setup")
    end
  end
end
