defmodule PaymentQueue.Dashboard do
  @moduledoc """
  A page that shows the queues live, and lets those operate them who may.

  This is the content alone, for any server; `PaymentQueue.Plug.Dashboard` serves it from a Plug pipeline, and
  `examples/payments_api` from another server. The page is one piece: it loads nothing from elsewhere, works without a
  network, and its content security policy names its scripts by hash.

  | option | default | |
  |---|---|---|
  | `queues:` | `:all` | the queues to show |
  | `interval:` | `1_000` | ms between two looks at the queues, from 100 |
  | `title:` | `"PaymentQueue"` | of the page |
  | `payloads:` | `false` | whether those who may operate the queues see the beginning of dead letters' payloads |

  ## Requests

  `respond/2` takes a request as a map and who asks, and answers

    * `{:ok, status, headers, body}`
    * `{:events, headers, stream}`: send the headers with status 200, then the text of `next_event/1`, wait for
      `config.interval` ms, and so on with the stream that it returned, until the client is gone. Nothing else has to be
      done when it is: the stream is a value.

  | request | answer |
  |---|---|
  | `GET` of the path itself | the page |
  | `GET events?queue=name` | the server-sent events behind it |
  | `POST operations` with `queue`, `operation` (`pause`, `resume`, `scale`, `requeue_dead`), `value` | 200 or 422 with `{"message": ...}`; 403 |

  ## Who may do what

  Whoever can reach the page can look at it: depths, rates, the reasons of dead letters reduced to their shape; never a
  payload, unless `payloads:` is set. Operations need a request of somebody for whom `respond/2` is told so (`who`), and

    * the header `x-csrf-token` with the token from the page, which is signed with a key of this VM and fits the cookie that
      came with the page (`HttpOnly`, `SameSite=Strict`): a signed double submit, bound to one browser and one VM,
    * no sign of another site in `sec-fetch-site`.

  Each operation is logged with who asked for it.
  """

  alias PaymentQueue.Dashboard.{Csrf, Events, Operations, Page}
  alias PaymentQueue.{JSON, Options, Prometheus, Snapshot}

  @schema [
    queues: {{:custom, &Prometheus.queues_option/1}, :all},
    interval: {{:integer, 100, 3_600_000}, 1_000},
    title: {{:custom, &__MODULE__.title_option/1}, "PaymentQueue"},
    payloads: {:boolean, false}
  ]

  @json [{"content-type", "application/json"}, {"cache-control", "no-store"}]
  # The last one is for reverse proxies that would collect the events before they pass them on.
  @event_stream [{"content-type", "text/event-stream"}, {"cache-control", "no-store"}, {"x-accel-buffering", "no"}]

  @typedoc "Validated options. A server may keep its own in the same map."
  @type config :: %{
          required(:queues) => :all | [PaymentQueue.queue()],
          required(:interval) => pos_integer(),
          required(:title) => String.t(),
          required(:payloads) => boolean(),
          optional(atom()) => term()
        }

  @typedoc """
  `path`: the segments below the page's own path. `params`: of the query for a `GET`, of the body for a `POST`. `headers`: the ones
  named in `request_headers/0`, or nil. `base`: the page's own path, for the cookie. `secure`: whether it came by HTTPS.
  `host_token`: a token of the host's own protection against forgery, which the page sends back as `_csrf_token` in the body of its posts.
  """
  @type request :: %{
          required(:method) => String.t(),
          required(:path) => [String.t()],
          required(:params) => %{optional(String.t()) => term()},
          required(:headers) => %{optional(String.t()) => String.t() | nil},
          required(:base) => String.t(),
          required(:secure) => boolean(),
          optional(:host_token) => String.t()
        }

  @typedoc "false: may look. Anything else: may operate, and is named in the log unless it is true."
  @type who :: false | true | term()

  @type stream :: Events.t()
  @type answer ::
          {:ok, pos_integer(), [{String.t(), String.t()}], iodata()} | {:events, [{String.t(), String.t()}], stream()}

  @doc "Validates the options."
  @spec options!(keyword()) :: config()
  def options!(opts) do
    _ = JSON.library!()
    Options.own!(opts, @schema, "PaymentQueue.Dashboard")
  end

  @doc "The request headers that `respond/2` looks at."
  @spec request_headers() :: [String.t()]
  def request_headers, do: ["cookie", "x-csrf-token", "sec-fetch-site"]

  @doc "Answers one request."
  @spec respond(config(), request(), who()) :: answer()
  def respond(config, request, who \\ false)

  def respond(config, %{method: method, path: []} = request, who) when method in ["GET", "HEAD"] do
    {cookies, token} = if who == false, do: {[], ""}, else: token(request)

    values = %{
      title: config.title,
      token: token,
      host_token: request[:host_token] || "",
      interval: to_string(config.interval)
    }

    {headers, body} = Page.render(values)
    {:ok, 200, cookies ++ headers, body}
  end

  def respond(config, %{method: "GET", path: ["events"], params: params}, who) do
    queue = find(config, params["queue"]) || List.first(Snapshot.queues(config.queues))
    {:events, @event_stream, Events.new(config.queues, queue, config.payloads and who != false)}
  end

  def respond(config, %{method: "POST", path: ["operations"]} = request, who) do
    cond do
      who == false -> message(403, "this page is for looking only")
      not from_the_page?(request) -> message(403, "this page is out of date: load it again")
      queue = find(config, request.params["queue"]) -> operate(queue, request.params, who)
      true -> message(422, "there is no such queue")
    end
  end

  def respond(_config, %{path: path}, _who) when path in [[], ["events"], ["operations"]],
    do: message(405, "method not allowed")

  def respond(_config, _request, _who), do: message(404, "not found")

  @doc "The next event of a stream as it goes over the wire, and the stream after it."
  @spec next_event(stream()) :: {iodata(), stream()}
  def next_event(stream), do: Events.next(stream)

  defp operate(queue, params, who) do
    case Operations.run(queue, text(params["operation"]), text(params["value"]), who) do
      {:ok, sentence} -> message(200, sentence)
      {:error, sentence} -> message(422, sentence)
    end
  end

  defp text(value), do: if(is_binary(value), do: value)

  defp message(status, sentence), do: {:ok, status, @json, JSON.encode!(message: sentence)}

  # By comparing with the names there are, so that nobody makes atoms for us.
  defp find(config, id), do: config.queues |> Snapshot.queues() |> Enum.find(&(Atom.to_string(&1) == id))

  # --- who it comes from -----------------------------------------------------------------------------------------------

  defp token(request) do
    {value, token} = request |> cookie() |> Csrf.issue()
    attributes = ["; Path=", request.base, "; HttpOnly; SameSite=Strict", if(request.secure, do: "; Secure", else: "")]
    {[{"set-cookie", IO.iodata_to_binary([Csrf.cookie(), ?=, value | attributes])}], token}
  end

  defp from_the_page?(request) do
    request.headers["sec-fetch-site"] in [nil, "same-origin"] and
      Csrf.valid?(cookie(request), request.headers["x-csrf-token"])
  end

  defp cookie(request) do
    prefix = Csrf.cookie() <> "="

    (request.headers["cookie"] || "")
    |> String.split(";")
    |> Enum.map(&String.trim/1)
    |> Enum.find_value(&if(String.starts_with?(&1, prefix), do: String.replace_prefix(&1, prefix, "")))
  end

  @doc false
  @spec title_option(term()) :: {:ok, String.t()} | {:error, String.t()}
  def title_option(title) when is_binary(title) and byte_size(title) in 1..200, do: {:ok, title}
  def title_option(_other), do: {:error, "a text of 1 to 200 bytes"}
end
