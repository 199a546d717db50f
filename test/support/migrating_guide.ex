defmodule PaymentQueue.Guides.Migrating do
  # Without its fences, which would be read as part of the answer above them, the page has doctests.
  @page PaymentQueue.Guide.path("guides/migrating.md")
  @external_resource @page
  @moduledoc @page |> File.read!() |> String.replace(~r/^```.*$/m, "")
end
