defmodule PaymentQueue.GuidesTest do
  # The pages of guides/ say what is true: their code is run, their links lead somewhere.
  use ExUnit.Case, async: true

  alias PaymentQueue.Guide

  # Pages whose code other tests run, because it needs more than a stand-in for the reader's gateway.
  @run_by %{
    "guides/broadway.md" => "test/integration/guide_test.exs",
    "guides/migrating.md" => "test/guides/migrating_test.exs"
  }

  test "there are pages, and they have code" do
    assert length(Guide.pages()) > 7
    assert Enum.sum(for page <- Guide.pages(), do: length(Guide.blocks(page))) > 50
  end

  test "a notebook's set-up is the first that follows its title" do
    # Livebook takes it for the set-up only then, and for a cell like all others if there is as much as a comment before it.
    for page <- Guide.pages(), Path.extname(page) == ".livemd" do
      assert File.read!(Guide.path(page)) =~ ~r/\A# [^\n]+\n\n```elixir\n[^`]*^Mix\.install\([^`]*^```\n\n## /m
    end
  end

  for page <- Guide.pages() do
    @page page

    if test = @run_by[page] do
      test "the code of #{page} is run by another test" do
        assert File.exists?(Guide.path(unquote(test)))
      end
    else
      test "the code of #{page} does what the page says" do
        assert Guide.run(@page) == Enum.count(Guide.blocks(@page), &is_nil(&1.not_run))
      end
    end
  end

  for page <- Guide.site() do
    @page page

    test "the links of #{page} lead somewhere" do
      for {file, fragment} <- Guide.links(@page) do
        assert File.exists?(Guide.path(file)), "#{@page} links to #{file}, which is not there"

        if fragment && Path.extname(file) in [".md", ".livemd"],
          do: assert(fragment in Guide.anchors(file), "#{@page} links to ##{fragment}, which #{file} has not")
      end
    end
  end

  test "each guide and each README is a page of the site" do
    pages =
      for folder <- ["", "bench/", "bench/*/", "examples/*/", "guides/", "native/*/"],
          file <- Path.wildcard(Guide.path(folder <> "*.{md,livemd}")),
          do: Path.relative_to(file, Guide.path(""))

    assert length(pages) > 20
    assert pages -- Guide.site() == []
  end

  test "the runbook explains every key of info/1" do
    queue = PaymentQueue.Testing.start_queue!()
    page = File.read!(Guide.path("guides/operations.md"))

    for {key, _} <- PaymentQueue.info(queue),
        do: assert(page =~ ~r/`(storage\.)?#{key}`/, "guides/operations.md does not explain #{key}")
  end

  test "every module with a session in its documentation is doctested" do
    tests = Path.wildcard(Guide.path("test/**/*.exs")) |> Enum.map_join(&File.read!/1)
    {:ok, modules} = :application.get_key(:payment_queue, :modules)
    with_sessions = Enum.filter(modules, &session?/1)
    assert PaymentQueue in with_sessions

    for module <- with_sessions,
        do: assert(tests =~ ~r/^  doctest #{inspect(module)}(,|$)/m, "no test runs the sessions of #{inspect(module)}")
  end

  defp session?(module) do
    case Code.fetch_docs(module) do
      {:docs_v1, _, _, _, page, _, functions} ->
        Enum.any?([page | Enum.map(functions, &elem(&1, 3))], &(is_map(&1) and &1["en"] =~ ~r/^ *iex> /m))

      {:error, _} ->
        false
    end
  end
end
