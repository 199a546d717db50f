defmodule Mix.Tasks.Demo do
  @moduledoc "Runs `PaymentsApi.Demo` with the arguments of `bin/demo`."
  @shortdoc "Runs the payments API with load and failing workers"

  use Mix.Task

  @impl true
  def run(argv) do
    Mix.Task.run("app.start")

    case PaymentsApi.Demo.main(argv) do
      0 -> :ok
      status -> exit({:shutdown, status})
    end
  end
end
