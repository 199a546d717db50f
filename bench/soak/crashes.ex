defmodule PaymentQueue.Soak.Crashes do
  @moduledoc """
  Hears of every process in the VM that crashes. The soak kills processes, which nobody reports; a crash that is reported is
  one of the library. What the library itself logs of failed items and dead workers is not shown: it is meant to happen here.
  """

  @most 10

  @doc "Starts listening, and mutes the log, until the function is done."
  @spec listening(((() -> [String.t()]) -> result)) :: result when result: term()
  def listening(function) do
    heard = :ets.new(:soak_crashes, [:ordered_set, :public])
    handlers = for %{id: id, level: level} <- :logger.get_handler_config(), do: {id, level}
    level = Logger.level()
    Logger.configure(level: :error)
    for {id, _} <- handlers, do: :logger.set_handler_config(id, :level, :none)
    :ok = :logger.add_handler(__MODULE__, __MODULE__, %{config: %{heard: heard}, level: :error})

    try do
      function.(fn -> heard |> :ets.tab2list() |> Enum.map(&elem(&1, 1)) end)
    after
      :logger.remove_handler(__MODULE__)
      for {id, level} <- handlers, do: :logger.set_handler_config(id, :level, level)
      Logger.configure(level: level)
    end
  end

  @doc false
  def log(%{meta: %{crash_reason: reason}} = event, %{config: %{heard: heard}}) do
    if :ets.info(heard, :size) < @most and not killed?(reason),
      do: :ets.insert(heard, {System.unique_integer([:monotonic]), text(event, reason)})
  end

  def log(_event, _config), do: :ok

  # A process that stops because the soak has killed what it was linked to.
  defp killed?({:workers_supervisor, reason}), do: killed?(reason)
  defp killed?({reason, _stack_or_call}), do: killed?(reason)
  defp killed?(reason), do: reason in [:killed, :kill, :shutdown, :normal]

  defp text(event, reason), do: "#{inspect(event.meta[:pid])}: #{inspect(reason, limit: 20, printable_limit: 200)}"
end
