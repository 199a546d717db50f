defmodule PaymentQueue.Guides.ReliabilityTest do
  # The page names a test for each promise: each of them is there, and no test of a law is left out.
  use ExUnit.Case, async: true

  alias PaymentQueue.Guide

  @page "guides/reliability.md"
  @named ~r/^- `(?<file>[^`]+\.(?:exs|rs))`: (?<tests>.+)$/m

  # Where the tests are that show promises: none of these files may be missing on the page.
  @shown ["test/laws/*.exs", "test/durable/*.exs", "test/faults/*.exs", "test/fuzz/*.exs", "test/nats/*.exs"] ++
           ["native/payment_queue_core/src/loom_models/*.rs"]

  defp named do
    for [file, tests] <- Regex.scan(@named, File.read!(Guide.path(@page)), capture: :all_but_first) do
      {file, Regex.scan(~r/"([^"]+)"|`([^`]+)`/, tests) |> Enum.map(&List.last/1)}
    end
  end

  test "each test that the page names is there" do
    assert length(named()) > 30

    for {file, tests} <- named() do
      source = File.read!(Guide.path(file))
      assert tests != [], "#{@page} names #{file} and no test of it"
      for test <- tests, do: assert(there?(Path.extname(file), source, test), "#{file} has no test #{inspect(test)}")
    end
  end

  # A part of the name may come from a loop around the test: `death by #{name}`.
  defp there?(".exs", source, test) do
    for [name] <-
          Regex.scan(~r/^ *test "(.+?)"(?:, %?\S.*)? do$|^ *test "(.+?)", %\{$/m, source, capture: :all_but_first)
          |> Enum.map(&Enum.take(&1, -1)) do
      name
      |> String.split(~r/#\{[^}]*\}/)
      |> Enum.map_join(".+", &Regex.escape/1)
      |> then(&~r/\A#{&1}\z/)
      |> Regex.match?(test)
    end
    |> Enum.any?()
  end

  # Its attribute may be followed by others.
  defp there?(".rs", source, test), do: source =~ ~r/#\[test\]\s+(?:#\[[^\]]*\]\s+)*fn #{test}\(/

  test "each file of tests that show a promise is on the page" do
    on_page = MapSet.new(named(), &elem(&1, 0))

    for pattern <- @shown, path <- Path.wildcard(Guide.path(pattern)) do
      file = Path.relative_to(path, Guide.path(""))
      assert file in on_page, "#{@page} does not name #{file}"
    end
  end

  test "a name that is not there would be found" do
    refute there?(".exs", ~s(  test "one and \#{two}" do), "one or two")
    assert there?(".exs", ~s(  test "one and \#{two}" do), "one and three")
    assert there?(".exs", ~s(  test "one: \#{two}", %{dir: dir} do), "one: 2")
    refute there?(".rs", "fn helper() {}", "helper")
    assert there?(".rs", "#[test]\n    fn is_one() {}", "is_one")
  end
end
