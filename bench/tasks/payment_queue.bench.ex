defmodule Mix.Tasks.PaymentQueue.Bench do
  @shortdoc "Compares PaymentQueue with the queues it replaces"

  @moduledoc """
  Runs the benches of this repository: see `PaymentQueue.Bench.Options.usage/0`, which `--help` prints, and bench/README.md.
  """

  use Mix.Task

  @impl true
  def run(argv) do
    Mix.Task.run("app.start")

    case PaymentQueue.Bench.main(argv) do
      0 -> :ok
      status -> exit({:shutdown, status})
    end
  end
end
