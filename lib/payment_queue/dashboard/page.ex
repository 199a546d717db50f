defmodule PaymentQueue.Dashboard.Page do
  @moduledoc false
  # The page, in one piece: markup, styles, scripts. It asks no other server for anything, and its content security policy
  # says so: what may run is named by hash, so a text that got into the page could not.

  @assets Path.join(__DIR__, "assets")
  @vendor Path.join(__DIR__, "vendor/uPlot")

  @styles [Path.join(@vendor, "uPlot.min.css"), Path.join(@assets, "page.css")]
  @scripts [
    Path.join(@vendor, "uPlot.iife.min.js") | Enum.map(~w(format.js charts.js page.js), &Path.join(@assets, &1))
  ]
  @html Path.join(@assets, "page.html")

  for path <- [@html | @styles ++ @scripts], do: @external_resource(path)

  # Nothing in between: a newline would be part of what is hashed.
  elements = fn paths, tag -> Enum.map_join(paths, "\n", &"<#{tag}>#{File.read!(&1)}</#{tag}>") end

  @static %{"styles" => elements.(@styles, "style"), "scripts" => elements.(@scripts, "script")}

  # Text and names of values in turn, so that showing the page is no search.
  @template Regex.split(~r/\{\{(\w+)\}\}/, File.read!(@html), include_captures: true)
            |> Enum.map(fn part ->
              case Regex.run(~r/^\{\{(\w+)\}\}$/, part) do
                [_, name] -> if text = @static[name], do: text, else: {:value, String.to_atom(name)}
                nil -> part
              end
            end)

  hashes = fn paths ->
    Enum.map_join(paths, " ", &"'sha256-#{Base.encode64(:crypto.hash(:sha256, File.read!(&1)))}'")
  end

  @policy [
            "default-src 'none'",
            "script-src #{hashes.(@scripts)}",
            "style-src #{hashes.(@styles)}",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'self'"
          ]
          |> Enum.join("; ")

  @headers [
    {"content-type", "text/html; charset=utf-8"},
    {"content-security-policy", @policy},
    {"referrer-policy", "no-referrer"},
    {"x-content-type-options", "nosniff"},
    {"cache-control", "no-store"}
  ]

  @type values :: %{title: String.t(), token: String.t(), host_token: String.t(), interval: String.t()}

  @doc "Headers and body. The token is empty where nothing but looking is allowed."
  @spec render(values()) :: {[{String.t(), String.t()}], iodata()}
  def render(values) do
    body =
      Enum.map(@template, fn
        {:value, name} -> values |> Map.fetch!(name) |> escape()
        text -> text
      end)

    {@headers, body}
  end

  @escapes %{"&" => "&amp;", "<" => "&lt;", ">" => "&gt;", "\"" => "&quot;", "'" => "&#39;"}

  defp escape(text), do: String.replace(text, Map.keys(@escapes), &@escapes[&1])
end
