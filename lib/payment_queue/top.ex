defmodule PaymentQueue.Top do
  @moduledoc """
  The queues in a terminal, live: what the dashboard shows, as text.

  From a checkout or a development machine, `mix payment_queue.top` attaches to a running node. In a release, where there is
  no Mix, the same runs in the remote shell:

      PaymentQueue.Top.run()

  | option | default | |
  |---|---|---|
  | `queue:` | none | the name, as text, of a queue to show in full, with its dead letters |
  | `interval:` | `1_000` | ms between two looks |
  | `count:` | `:infinity` | looks before it ends |
  | `node:` | this node | where the queues are; that node must have PaymentQueue |
  | `ansi:` | whether the terminal can | draw over the last look; otherwise one comes below the other |

  A look at a remote node is one call; rates and percentiles are of the time since the look before.
  """

  alias PaymentQueue.{Options, Snapshot}
  alias PaymentQueue.Top.Text

  @dead_shown 5

  @schema [
    queue: {{:custom, &__MODULE__.queue_option/1}, nil},
    interval: {{:integer, 100, 3_600_000}, 1_000},
    count: {{:timeout, 1}, :infinity},
    node: {{:custom, &__MODULE__.node_option/1}, nil},
    ansi: {{:custom, &__MODULE__.ansi_option/1}, nil}
  ]

  @typedoc "One look at a node."
  @type look :: %{
          node: node(),
          at: DateTime.t(),
          queues: [Snapshot.t()],
          shown: PaymentQueue.queue() | nil,
          dead: [map()]
        }

  @doc "Shows the queues until `count:` is reached. Raises `ErlangError` when the node can't be reached or goes."
  @spec run(keyword()) :: :ok
  def run(opts \\ []) do
    config = Options.own!(opts, @schema, "PaymentQueue.Top")
    config = %{config | node: config.node || node()}
    ansi? = if config.ansi == nil, do: IO.ANSI.enabled?(), else: config.ansi
    # Without a look before there are no rates: a short one for a single look.
    first = collect_at(config)
    wait(min(config.interval, 1_000))
    loop(%{config | ansi: ansi?}, first, config.count)
  end

  defp loop(_config, _before, 0), do: :ok

  defp loop(config, before, left) do
    look = collect_at(config)
    IO.write(draw(look, before, config))
    left = if left == :infinity, do: left, else: left - 1
    unless left == 0, do: wait(config.interval)
    loop(config, look, left)
  end

  defp draw(look, before, %{ansi: true} = config) do
    lines = look |> lines(before, config) |> Enum.map(&[&1, "\e[K\n"])
    # What is longer from the look before is below.
    [IO.ANSI.home(), lines, "\e[J"]
  end

  defp draw(look, before, config), do: [look |> lines(before, config) |> Enum.map(&[strip(&1), ?\n]), ?\n]

  # It may come yet.
  defp lines(%{shown: nil} = look, before, %{queue: asked}) when asked != nil,
    do: Text.render(look, before) ++ ["", "No queue is called #{asked} there."]

  defp lines(look, before, _config), do: Text.render(look, before)

  defp strip(line), do: line |> IO.iodata_to_binary() |> String.replace(~r/\e\[[0-9;]*m/, "")

  defp wait(ms) do
    receive do
    after
      ms -> :ok
    end
  end

  defp collect_at(%{node: node, queue: queue}) do
    if node == node(), do: collect(queue), else: :erpc.call(node, __MODULE__, :collect, [queue], 10_000)
  end

  @doc false
  @spec collect(String.t() | nil) :: look()
  def collect(shown) do
    snapshots = Snapshot.all()
    shown = Enum.find_value(snapshots, &if(Snapshot.label(&1.queue) == shown, do: &1.queue))

    %{
      node: node(),
      at: DateTime.utc_now(),
      queues: snapshots,
      shown: shown,
      dead: Enum.find_value(snapshots, [], &if(&1.queue == shown, do: dead(&1)))
    }
  end

  # Not of a server that does not answer.
  defp dead(%{info: %{dead: none}}) when none in [nil, 0], do: []
  defp dead(%{queue: queue}), do: Snapshot.dead_letters(queue, @dead_shown)

  @doc false
  @spec queue_option(term()) :: {:ok, String.t() | nil} | {:error, String.t()}
  def queue_option(name) when is_binary(name) or is_nil(name), do: {:ok, name}
  def queue_option(name) when is_atom(name), do: {:ok, Snapshot.label(name)}
  def queue_option(_other), do: {:error, "the name of a queue"}

  @doc false
  @spec node_option(term()) :: {:ok, node() | nil} | {:error, String.t()}
  def node_option(node) when is_atom(node), do: {:ok, node}
  def node_option(_other), do: {:error, "the name of a node"}

  @doc false
  @spec ansi_option(term()) :: {:ok, boolean() | nil} | {:error, String.t()}
  def ansi_option(value) when value in [true, false, nil], do: {:ok, value}
  def ansi_option(_other), do: {:error, "true or false"}
end
