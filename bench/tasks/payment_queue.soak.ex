defmodule Mix.Tasks.PaymentQueue.Soak do
  @shortdoc "Random operations on all kinds of queue, with every law checked"

  @moduledoc """
  Runs the soak of this repository: see `PaymentQueue.Soak.Options.usage/0`, which `--help` prints, and bench/soak/README.md.
  """

  use Mix.Task

  @impl true
  def run(argv) do
    Mix.Task.run("app.start")

    case PaymentQueue.Soak.main(argv) do
      0 -> :ok
      status -> exit({:shutdown, status})
    end
  end
end
