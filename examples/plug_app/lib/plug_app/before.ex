defmodule PlugApp.Before do
  @moduledoc "The app as it was: a GenServer holds the queue, workers ask it for work."

  def children, do: [PlugApp.OldQueue, {PlugApp.OldWorkers, 4}]

  defdelegate enqueue(payment), to: PlugApp.OldQueue
  defdelegate stats(), to: PlugApp.OldQueue
end
