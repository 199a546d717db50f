defmodule PaymentQueue.Guide do
  @moduledoc false
  # The code on a page of guides/, to be run by a test in the order in which a reader meets it.
  #
  # Every block that says it is Elixir is run. What a page needs and does not show (a stand-in for the reader's gateway) is
  # in test/support/guides/<page>.exs, which is run first, in the same binding. A block that a page only shows is marked, with
  # the reason, by a comment before it that readers do not see; its syntax is checked nevertheless:
  #
  #     <!-- not run: needs your release -->
  #
  # In a notebook that comment would be a cell of its own, before its set-up; so `Mix.install/2` alone says the same there.
  #
  # Blocks with the prompt `iex>` are sessions: each answer is compared with what the expression returns, and
  # `** (Error) message` with what it raises. The tests of a test case that a page shows are run, too.

  import ExUnit.Assertions

  @root Path.expand("../..", __DIR__)
  @fence ~r/(?:^<!-- not run: (?<why>.+?) -->\n+)?^(?<indent> *)```elixir\n(?<code>.*?)^ *```$/ms

  # Milliseconds for a step of a page, on a machine that is busy.
  @patience 120_000

  @enforce_keys [:file, :line, :code, :not_run]
  defstruct @enforce_keys

  @doc "All pages, as paths in the repository."
  def pages do
    for file <- Path.wildcard(Path.join(@root, "guides/*.{md,livemd}")), do: Path.relative_to(file, @root)
  end

  @doc "The pages of the documentation's site, which these are among, as paths in the repository."
  def site do
    # Not compiled with the tests: only `mix docs` needs it.
    Code.require_file(path("guides/site.exs"))
    for {file, _} <- apply(PaymentQueue.Site, :options, [])[:extras], do: file
  end

  @doc "The absolute path of something in the repository."
  def path(file), do: Path.join(@root, file)

  @doc "The Elixir blocks of a page, in order."
  def blocks(page) do
    text = File.read!(path(page))

    for [{_, _}, why, indent, {at, length}] <- Regex.scan(@fence, text, return: :index, capture: :all) do
      {_, indent} = indent
      code = text |> binary_part(at, length) |> String.replace(~r/^ {#{indent}}/m, "")
      line = text |> binary_part(0, at) |> String.split("\n") |> length()
      %__MODULE__{file: page, line: line, code: code, not_run: part(text, why) || installs(code)}
    end
  end

  defp installs(code), do: if(code =~ ~r/^Mix\.install\(/m, do: "the tests have it compiled already")

  defp part(_text, {-1, 0}), do: nil
  defp part(text, {at, length}), do: binary_part(text, at, length)

  @doc """
  Runs a page in a VM of its own, as its reader would: what one page defines and starts is nothing to another. Returns how
  many blocks were run.
  """
  def run(page) do
    peer = start_vm()

    try do
      {:ok, _} = :peer.call(peer, Application, :ensure_all_started, [:payment_queue], @patience)
      :peer.call(peer, __MODULE__, :run_here, [page], @patience)
    after
      :peer.stop(peer)
    end
  end

  defp start_vm do
    paths = Enum.flat_map(:code.get_path(), &[~c"-pa", &1])

    case :peer.start_link(%{connection: :standard_io, args: paths, wait_boot: @patience}) do
      {:ok, peer} -> peer
      {:ok, peer, _node} -> peer
    end
  end

  @doc "The half of `run/1` that is in the page's VM."
  def run_here(page) do
    # Pages let things fail on purpose.
    Logger.configure(level: :none)
    blocks = blocks(page)
    {_, binding} = page |> stage() |> File.read() |> prepare(stage(page))

    Enum.reduce(blocks, binding, fn
      %{not_run: nil} = block, binding -> run_block(block, binding)
      block, binding -> check_syntax(block, binding)
    end)

    Enum.count(blocks, &is_nil(&1.not_run))
  end

  defp stage(page), do: path("test/support/guides/#{Path.basename(page, Path.extname(page))}.exs")

  defp prepare({:ok, code}, file), do: Code.eval_string(code, [], file: file)
  defp prepare({:error, :enoent}, _file), do: {nil, []}

  defp check_syntax(block, binding) do
    Code.string_to_quoted!(block.code, file: block.file, line: block.line)
    binding
  end

  defp run_block(block, binding) do
    cond do
      block.code =~ ~r/^iex> /m -> block |> exchanges() |> Enum.reduce(binding, &exchange(&1, &2, block))
      block.code =~ "use ExUnit.Case" -> run_test_case(block, binding)
      true -> block.code |> eval(binding, block, block.line) |> elem(1)
    end
  end

  defp eval(code, binding, block, line), do: Code.eval_string(code, binding, file: block.file, line: line)

  # Not registered with ExUnit, because here nothing runs what is: its tests are called as functions.
  defp run_test_case(block, binding) do
    {:ok, _} = Application.ensure_all_started(:ex_unit)
    code = String.replace(block.code, "use ExUnit.Case", "use ExUnit.Case, register: false")
    {{:module, module, _, _}, binding} = eval(code, binding, block, block.line)
    tests = module.__ex_unit__().tests
    assert tests != []
    for %{name: name, tags: tags} <- tests, do: apply(module, name, [module.__ex_unit__(:setup, tags)])
    binding
  end

  # --- sessions ------------------------------------------------------------------------------------------------------

  # [{expression, answer, line}]
  defp exchanges(block) do
    block.code
    |> String.split("\n")
    |> Enum.with_index(block.line)
    |> Enum.reduce([], fn
      {"iex> " <> code, line}, done -> [{[code], [], line} | done]
      {"...> " <> code, _}, [{expression, [], line} | done] -> [{[code | expression], [], line} | done]
      {"", _}, done -> done
      {answer, _}, [{expression, answers, line} | done] -> [{expression, [answer | answers], line} | done]
    end)
    |> Enum.reverse()
    |> Enum.map(fn {expression, answer, line} -> {together(expression), together(answer), line} end)
  end

  defp together(lines), do: lines |> Enum.reverse() |> Enum.join("\n")

  defp exchange({expression, "** (" <> error, line}, binding, block) do
    [name, message] = String.split(error, ") ", parts: 2)
    raised = catch_error(eval(expression, binding, block, line))
    assert {inspect(raised.__struct__), Exception.message(raised)} == {name, message}, at(block, line)
    binding
  end

  defp exchange({expression, answer, line}, binding, block) do
    {value, binding} = eval(expression, binding, block, line)

    if answer != "" do
      {expected, _} = eval(answer, binding, block, line)
      assert value == expected, "#{at(block, line)}: #{expression}\nsays  #{answer}\nbut is #{inspect(value)}"
    end

    binding
  end

  defp at(block, line), do: "#{block.file}:#{line}"

  # --- links ---------------------------------------------------------------------------------------------------------

  @doc "The links of a page to other files, or to headings: `{target file, fragment or nil}`."
  def links(page) do
    text = page |> path() |> File.read!() |> String.replace(~r/^ *```.*?^ *```$/ms, "")

    for [_, link] <- Regex.scan(~r/\]\(([^)\s]+)\)/, text), %{scheme: nil} = uri <- [URI.parse(link)] do
      file =
        if uri.path in [nil, ""],
          do: page,
          else: Path.relative_to(Path.expand(uri.path, Path.dirname(path(page))), @root)

      {file, uri.fragment}
    end
  end

  @doc "The fragments that a page's headings have, on a code host and on the site."
  def anchors(page) do
    for [_, title] <- Regex.scan(~r/^\#{2,4} (.+)$/m, File.read!(path(page))) do
      title |> String.downcase() |> String.replace(~r/[^\p{L}\p{N}\s_-]/u, "") |> String.replace(" ", "-")
    end
  end
end
