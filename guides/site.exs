defmodule PaymentQueue.Site do
  @moduledoc false
  # What the documentation site (bin/docs) consists of, in which order, under which headings. mix.exs asks for it when
  # `mix docs` runs, and only then.

  @root Path.expand("..", __DIR__)

  # A page that is not there is left out; a guide that is not listed comes after those that are.
  @pages [
    {"Start here",
     ~w(README.md guides/getting-started.md guides/payment_queue.livemd guides/migrating.md CHANGELOG.md)},
    {"Guides",
     ~w(guides/handlers-and-retries.md guides/back-pressure.md guides/ordering-and-limits.md guides/durability.md
        guides/nats.md guides/reliability.md guides/broadway.md guides/testing.md guides/operations.md
        guides/performance.md guides/faq.md)},
    {"How it is built",
     ~w(guides/architecture.md SECURITY.md native/payment_queue_core/README.md native/payment_queue_nif/README.md
        native/payment_queue_store/README.md native/payment_queue_nats/README.md native/payment_queue_nats_nif/README.md
        bench/README.md bench/soak/README.md examples/payments_api/README.md examples/plug_app/README.md
        examples/grafana/README.md)}
  ]

  # The first README is the front page; the others need names of their own.
  @titles %{
    "CHANGELOG.md" => "Changelog",
    "SECURITY.md" => "Security",
    "native/payment_queue_core/README.md" => "Inside the core crate",
    "native/payment_queue_nif/README.md" => "Inside the NIF crate",
    "native/payment_queue_store/README.md" => "Inside the store",
    "native/payment_queue_nats/README.md" => "Inside the NATS crate",
    "native/payment_queue_nats_nif/README.md" => "Inside the NATS engine's NIF",
    "bench/README.md" => "Benches",
    "bench/soak/README.md" => "Soak",
    "examples/payments_api/README.md" => "Example: a payments API",
    "examples/plug_app/README.md" => "Example: a Plug application",
    "examples/grafana/README.md" => "Example: a Grafana dashboard"
  }

  # The first that matches counts. Modules that no group names come before all groups.
  @modules [
    {"The queue", ~w(PaymentQueue PaymentQueue.Handler PaymentQueue.Backoff)},
    {"For tests", ["PaymentQueue.Testing"]},
    {"Broadway and GenStage", ["PaymentQueue.Producer"]},
    {"Telemetry", ["PaymentQueue.Telemetry"]},
    {"Web",
     ~w(PaymentQueue.Plug PaymentQueue.Health PaymentQueue.Prometheus PaymentQueue.Dashboard PaymentQueue.LiveDashboard)},
    {"In a terminal", ~w(PaymentQueue.Top Mix.Tasks.PaymentQueue)},
    {"Migration", ["PaymentQueue.Migration"]}
  ]

  # Compiled here for benches and tests, and no part of the library.
  @not_the_library ["PaymentQueue.Baseline", "PaymentQueue.Bench", "PaymentQueue.Soak"]

  # What pages on how it is built name, and what is no part of the interface.
  @unlinked ["PaymentQueue.Native" | @not_the_library]

  # Public types made of hidden ones: to be handed on, not to be looked into.
  @types_of_hidden ~w(t:PaymentQueue.Dashboard.stream/0 t:PaymentQueue.LiveDashboard.state/0 t:PaymentQueue.Top.look/0)

  @doc "The options of ExDoc."
  @spec options() :: keyword()
  def options do
    [
      main: "readme",
      formatters: ["html"],
      extras: for({_, paths} <- pages(), path <- paths, do: extra(path)),
      groups_for_extras: pages(),
      groups_for_modules: for({title, names} <- @modules, do: {title, Enum.map(names, &pattern/1)}),
      skip_code_autolink_to: fn code ->
        Enum.any?(@unlinked, &String.starts_with?(code, &1))
      end,
      skip_undefined_reference_warnings_on: @types_of_hidden,
      # It would lead to Hex, where the package is not.
      footer: false,
      # ExDoc's badge is fetched from elsewhere and leads to a service; the notebook is opened from a checkout. What is hidden
      # is fetched nevertheless, so that is forbidden.
      before_closing_head_tag: fn _ ->
        ~s(<meta http-equiv="Content-Security-Policy" content="img-src 'self' data:">) <>
          "<style>.livebook-badge-container { display: none !important }</style>"
      end,
      filter_modules: fn module, _ -> not Enum.any?(@not_the_library, &within?(inspect(module), &1)) end,
      markdown_processor: {__MODULE__.Markdown, links: Map.new(pages() |> Enum.flat_map(&elem(&1, 1)), &{&1, id(&1)})}
    ]
  end

  defp pages do
    listed = for {title, paths} <- @pages, do: {title, Enum.filter(paths, &File.exists?(Path.join(@root, &1)))}
    known = Enum.flat_map(listed, &elem(&1, 1))
    guides = Path.wildcard(Path.join(@root, "guides/*.{md,livemd}")) |> Enum.map(&Path.relative_to(&1, @root))
    for {title, paths} <- listed, do: {title, if(title == "Guides", do: paths ++ (guides -- known), else: paths)}
  end

  defp extra(path) do
    case @titles do
      %{^path => title} -> {path, filename: id(path), title: title}
      _ -> {path, filename: id(path)}
    end
  end

  # README.md -> readme, guides/faq.md -> faq, bench/README.md -> bench
  defp id(path) do
    case path |> Path.rootname() |> Path.split() do
      [name] -> String.downcase(name)
      ["guides", name] -> name
      path -> path |> List.delete_at(-1) |> List.last() |> String.replace("_", "-")
    end
  end

  # A module and those below it; the root of all names is only itself.
  defp pattern("PaymentQueue"), do: ~r/^PaymentQueue$/
  defp pattern(name), do: Regex.compile!("^#{Regex.escape(name)}(\\.|$)")

  defp within?(module, name), do: module == name or String.starts_with?(module, name <> ".")
end

defmodule PaymentQueue.Site.Markdown do
  @moduledoc false
  # Markdown whose links lead where they lead in the repository. ExDoc looks at the last part of a link's path alone, and
  # there are several files called README.md.

  @root Path.expand("..", __DIR__)

  # The tests read this file, too, and have no ExDoc.
  @compile {:no_warn_undefined, ExDoc.Markdown.Earmark}

  def available?, do: ExDoc.Markdown.Earmark.available?()

  def to_ast(text, opts) do
    {links, opts} = Keyword.pop!(opts, :links)
    text |> ExDoc.Markdown.Earmark.to_ast(opts) |> walk(&link(&1, Path.dirname(opts[:file] || @root), links))
  end

  defp walk(ast, fun) when is_list(ast), do: Enum.map(ast, &walk(&1, fun))
  defp walk({tag, attributes, children, meta}, fun), do: fun.({tag, attributes, walk(children, fun), meta})
  defp walk(other, _fun), do: other

  defp link({:a, attributes, children, meta} = node, folder, links) do
    with %{scheme: nil, host: nil, path: <<_, _::binary>> = path} = uri <- URI.parse(attributes[:href] || ""),
         file = Path.expand(path, Path.expand(folder, @root)) |> Path.relative_to(@root),
         true <- File.exists?(Path.join(@root, file)) do
      case links do
        %{^file => id} -> {:a, Keyword.put(attributes, :href, to_string(%{uri | path: id <> ".html"})), children, meta}
        # In the repository, but no page of the site.
        _ -> {:span, [], children, meta}
      end
    else
      # A link to elsewhere, or a dead one: ExDoc warns of those.
      _ -> node
    end
  end

  defp link(node, _folder, _links), do: node
end
