defmodule PaymentQueue.Guides do
  @moduledoc false
  # The guides' code blocks, so that tests can run them.

  @doc "The Elixir blocks of a guide."
  def blocks(guide) do
    for [_, block] <- Regex.scan(~r/^```elixir\n(.*?)^```/ms, File.read!(path(guide))), do: block
  end

  @doc "A guide as documentation in which doctests are found; fences would be read as part of the answer above them."
  def doc(guide), do: guide |> path() |> File.read!() |> String.replace(~r/^```.*$/m, "")

  @doc false
  def path(guide), do: Path.expand("../../guides/#{guide}", __DIR__)
end

defmodule PaymentQueue.Guides.Migrating do
  @external_resource PaymentQueue.Guides.path("migrating.md")
  @moduledoc PaymentQueue.Guides.doc("migrating.md")
end
