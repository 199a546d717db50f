defmodule Mix.Tasks.PaymentQueue.Top do
  @shortdoc "Shows the queues of a running node, live"

  @moduledoc """
  Shows the queues of a running node, live, as `top` shows processes.

      $ mix payment_queue.top --node payments@127.0.0.1 --cookie secret
      $ mix payment_queue.top --node payments@127.0.0.1 --queue payments

  A Mix task runs in a VM of its own, so it attaches to the node where the queues are: as a hidden node that
  listens to nobody and is gone when you stop it with Ctrl-C.

    * `--node`: the node, as it was started with `--name` or `--sname`; it must have PaymentQueue
    * `--cookie`: its cookie (default: the one of this user)
    * `--queue`: a queue to show in full, with its dead letters
    * `--interval`: milliseconds between two looks (default 1000)
    * `--once`: one look only, for scripts
    * `--no-ansi`: one look below the other, without colours; so it is anyway where the terminal can't do better

  In a release there is no Mix: see `PaymentQueue.Top`.
  """

  use Mix.Task

  @switches [node: :string, cookie: :string, queue: :string, interval: :integer, once: :boolean, ansi: :boolean]

  @impl true
  def run(args) do
    opts = parse!(args)
    # The code, not the application: its queues would be of this VM.
    Mix.Task.run("loadpaths")
    attach!(opts[:node], opts[:cookie])

    try do
      opts |> top_options() |> PaymentQueue.Top.run()
    rescue
      error in [ArgumentError] -> Mix.raise(Exception.message(error))
      error in [ErlangError] -> Mix.raise(lost(opts[:node], error.original))
    end
  end

  defp parse!(args) do
    {opts, rest, invalid} = OptionParser.parse(args, strict: @switches)

    cond do
      invalid != [] ->
        Mix.raise("unknown option or value: #{invalid |> hd() |> elem(0)}; see mix help payment_queue.top")

      rest != [] ->
        Mix.raise("what is #{hd(rest)}? See mix help payment_queue.top")

      opts[:node] == nil ->
        Mix.raise("which node? Say --node name@host; see mix help payment_queue.top")

      not String.contains?(opts[:node], "@") ->
        Mix.raise("--node #{opts[:node]} names no host: say name@host")

      true ->
        opts
    end
  end

  defp top_options(opts) do
    shown = Keyword.take(opts, [:queue, :interval, :ansi])
    count = if opts[:once], do: [count: 1, ansi: false], else: []
    [node: String.to_atom(opts[:node])] ++ Keyword.merge(shown, count)
  end

  defp attach!(name, cookie) do
    node = String.to_atom(name)
    unless Node.alive?(), do: start_distribution!(name)
    if cookie, do: Node.set_cookie(node, String.to_atom(cookie))

    unless Node.connect(node) == true do
      Mix.raise("#{name} can't be reached: is it running under that name, and is the cookie right?")
    end
  end

  # Nobody connects to this VM, so it listens to nobody, and its host's name need not be known anywhere.
  defp start_distribution!(name) do
    [_, host] = String.split(name, "@", parts: 2)
    {domain, here} = if String.contains?(host, "."), do: {:longnames, "127.0.0.1"}, else: {:shortnames, "localhost"}
    me = :"payment_queue_top_#{System.pid()}@#{here}"

    case :net_kernel.start(me, %{name_domain: domain, hidden: true, dist_listen: false}) do
      {:ok, _} -> :ok
      {:error, reason} -> Mix.raise("this VM can't connect to other nodes: #{inspect(reason)}")
    end
  end

  defp lost(name, {:erpc, :noconnection}), do: "#{name} is gone"
  defp lost(name, {:exception, :undef, _}), do: "#{name} has no PaymentQueue, or an older one"
  defp lost(name, reason), do: "#{name}: #{inspect(reason)}"
end
