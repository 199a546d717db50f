defmodule PaymentQueue.Bench.ChildVm do
  @moduledoc """
  Runs one function in a fresh VM on the same code: for what an allocator keeps from earlier work would hide how memory
  grows, and the number of schedulers is set when a VM starts.
  """

  alias PaymentQueue.Bench.WrongResult

  # On a busy machine a VM takes its time.
  @start_ms 120_000
  @timeout_ms 600_000

  @doc "The result of the function. `args` are arguments of `erl`, such as `+S 1:1`."
  @spec run(module(), atom(), [term()], [String.t()]) :: term()
  def run(module, function, arguments, args \\ []) do
    with_vm(args, fn peer ->
      # An error is brought over as a value: what the peer raises would otherwise come as its own connection's exit.
      case :peer.call(peer, __MODULE__, :guarded, [module, function, arguments], @timeout_ms) do
        {:ok, result} -> result
        {:wrong, message} -> raise WrongResult, message
      end
    end)
  end

  @doc "Starts a VM, gives its peer to the function, and stops it."
  @spec with_vm([String.t()], (pid() -> result)) :: result when result: term()
  def with_vm(args, function) do
    paths = Enum.flat_map(:code.get_path(), fn path -> [~c"-pa", path] end)
    args = Enum.map(args, &String.to_charlist/1) ++ paths
    peer = start(args)

    try do
      {:ok, _} = :peer.call(peer, :application, :ensure_all_started, [:payment_queue], @start_ms)
      function.(peer)
    after
      :peer.stop(peer)
    end
  end

  # What the peer asks of its output is asked of its starter's, and where that is captured, such as in a test, Elixir does not
  # start there.
  defp start(args) do
    leader = Process.group_leader()
    Process.group_leader(self(), Process.whereis(:user))
    {:ok, peer, _node} = :peer.start_link(%{connection: :standard_io, args: args, wait_boot: @start_ms})
    Process.group_leader(self(), leader)
    peer
  end

  @doc false
  @spec guarded(module(), atom(), [term()]) :: {:ok, term()} | {:wrong, String.t()}
  def guarded(module, function, arguments) do
    {:ok, apply(module, function, arguments)}
  rescue
    error in WrongResult -> {:wrong, error.message}
  end
end
