defmodule PaymentQueue.Soak.Waiting do
  @moduledoc "Letting time pass, and waiting for what nothing announces."

  @step_ms 10

  @doc "Lets time pass; messages stay where they are."
  @spec pass(timeout()) :: :ok
  def pass(ms) do
    receive do
    after
      ms -> :ok
    end
  end

  @doc """
  Whether the function returns true within so many milliseconds, the time not counted for which the VM stands still: on a
  machine where somebody measures, it may be stopped for minutes.
  """
  @spec until(pos_integer(), (() -> boolean())) :: boolean()
  def until(ms, fun), do: steps(div(ms, @step_ms), fun)

  defp steps(left, fun) do
    cond do
      fun.() ->
        true

      left == 0 ->
        false

      true ->
        pass(@step_ms)
        steps(left - 1, fun)
    end
  end

  @doc """
  Sends `{word, from, tag}` to each of these processes, and waits until each has called `answer/2` or is dead.
  """
  @spec ask_all([pid()], atom()) :: :ok
  def ask_all(pids, word) do
    monitors = for pid <- pids, do: {pid, Process.monitor(pid)}
    for {pid, monitor} <- monitors, do: send(pid, {word, self(), monitor})

    for {_pid, monitor} <- monitors do
      receive do
        {:answered, ^monitor} -> Process.demonitor(monitor, [:flush])
        {:DOWN, ^monitor, _, _, _} -> :ok
      end
    end

    :ok
  end

  @doc "Answers such a question."
  @spec answer(pid(), reference()) :: :ok
  def answer(from, tag) do
    send(from, {:answered, tag})
    :ok
  end

  @doc "Milliseconds of a clock that never goes back."
  @spec now() :: integer()
  def now, do: System.monotonic_time(:millisecond)
end
