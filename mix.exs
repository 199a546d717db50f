Code.require_file("native/mix_compiler.exs", __DIR__)

defmodule PaymentQueue.MixProject do
  use Mix.Project

  # While Mix reads the project of a dependency, the project that depends on it is the current one.
  @working_on_it Mix.Project.get() == nil and Mix.env() in [:dev, :test, :bench]

  # The benches and the replaced queues are for those who work on it: an application that depends on PaymentQueue never
  # gets them, nor what only they use.
  @elixirc_paths if @working_on_it, do: ["lib", "bench"], else: ["lib"]
  @test_paths if @working_on_it, do: ["test/support"], else: []
  @extra_applications if @working_on_it, do: [:logger, :crypto, :eex], else: [:logger, :crypto]

  def project do
    [
      app: :payment_queue,
      version: version(),
      elixir: "~> 1.14",
      name: "PaymentQueue",
      description: "A bounded in-memory work queue in a Rust NIF, drained by supervised workers",
      compilers: [:payment_queue_nif] ++ Mix.compilers(),
      elixirc_paths: elixirc_paths(Mix.env()),
      # Tests and benches use Debian's Erlang libraries (proper, mochiweb), which are no dependencies.
      prune_code_paths: not @working_on_it,
      test_coverage: [ignore_modules: [PaymentQueue.Native, PaymentQueue.Nats.Native]],
      package: package(),
      docs: &docs/0,
      deps: []
    ] ++ without_warnings([JSON, :json, Jason, :jiffy, Plug.Conn, Plug.CSRFProtection])
  end

  def application, do: [extra_applications: @extra_applications]

  # Asked anew by each task: `mix test` changes the environment after this file was read.
  defp elixirc_paths(:test), do: @elixirc_paths ++ @test_paths
  defp elixirc_paths(_env), do: @elixirc_paths

  # The workspace's Cargo.toml is the one place where the version stands.
  defp version do
    [_, version] = Regex.run(~r/^version = "(.+)"/m, File.read!(Path.join(__DIR__, "Cargo.toml")))
    version
  end

  # What the host application may have: called where it is there, and no dependency. Elixir 1.20 has renamed the option.
  defp without_warnings(modules) do
    if Version.match?(System.version(), ">= 1.20.0-dev"),
      do: [elixirc_options: [no_warn_undefined: modules]],
      else: [xref: [exclude: modules]]
  end

  defp package do
    [
      licenses: ["Apache-2.0"],
      files: ~w(lib native .cargo Cargo.toml Cargo.lock mix.exs .formatter.exs README.md CHANGELOG.md LICENSE)
    ]
  end

  defp docs do
    Code.require_file("guides/site.exs", __DIR__)
    PaymentQueue.Site.options()
  end
end
