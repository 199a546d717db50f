defmodule PaymentQueue.Migration.Route do
  @moduledoc false
  # All that an `enqueue` needs, in one persistent term: read without a process and without a copy. The term itself is
  # written at the start and then stays (replacing it makes the VM scan all processes); what changes live is behind its
  # references: the flag, one atomic word, and the counters.
  #
  # Like a queue, a route outlives the processes around it: a flag that an operator has set must not fall back to where the
  # configuration began because some process was restarted.

  alias PaymentQueue.Migration.{Legacy, Mode, Recorder}

  @mode 1
  @changed_at 2

  # `take` is the name of the legacy module's function, or nil. `agreement` counts calls in shadow mode by what both sides
  # said. `started_at` and the flag's second word are Unix milliseconds.
  @enforce_keys [:name, :legacy, :take, :queue, :shadow, :in_hand, :key, :flag, :recorders, :agreement, :started_at]
  defstruct @enforce_keys

  @type t :: %__MODULE__{
          name: atom(),
          legacy: module(),
          take: :take | :dequeue | nil,
          queue: atom(),
          shadow: atom(),
          in_hand: atom(),
          key: (term() -> term()) | nil,
          flag: :atomics.atomics_ref(),
          recorders: %{legacy: Recorder.t(), native: Recorder.t(), shadow: Recorder.t()},
          agreement: :counters.counters_ref(),
          started_at: integer()
        }

  @doc "Finds the route of that name again or makes it. The mode counts only for a new one."
  @spec install(map()) :: t()
  def install(%{name: name, legacy: {legacy, take}, queue: queue, key: key, mode: mode}) do
    found = fetch(name)

    route =
      case found do
        %{legacy: ^legacy, queue: ^queue} -> %{found | take: take, key: key}
        _ -> new(name, legacy, queue, mode) |> Map.merge(%{take: take, key: key})
      end

    if route != found, do: :persistent_term.put({__MODULE__, name}, route)
    route
  end

  defp new(name, legacy, queue, mode) do
    now = System.os_time(:millisecond)
    flag = :atomics.new(2, signed: false)
    :atomics.put(flag, @mode, mode)
    :atomics.put(flag, @changed_at, now)

    %__MODULE__{
      name: name,
      legacy: legacy,
      take: nil,
      queue: queue,
      shadow: :"#{name}.migration.shadow",
      in_hand: :"#{name}.migration.in_hand",
      key: nil,
      flag: flag,
      recorders: %{legacy: Recorder.new(), native: Recorder.new(), shadow: Recorder.new()},
      agreement: :counters.new(8, [:write_concurrency]),
      started_at: now
    }
  end

  @spec fetch(atom()) :: t() | nil
  def fetch(name), do: :persistent_term.get({__MODULE__, name}, nil)

  @spec fetch!(atom()) :: t()
  def fetch!(name) do
    fetch(name) ||
      raise ArgumentError,
            "the migration #{inspect(name)} was never started. Put {PaymentQueue.Migration, name: #{inspect(name)}, " <>
              "legacy: MyApp.OldQueue} among your supervisor's children, after the queue"
  end

  # --- the flag ------------------------------------------------------------------------------------------------------

  @spec mode(t()) :: Mode.word()
  def mode(%{flag: flag}), do: :atomics.get(flag, @mode)

  @spec put_mode(t(), Mode.word()) :: :ok
  def put_mode(%{flag: flag} = route, mode) do
    Enum.each(route.recorders, fn {_, recorder} -> Recorder.mark(recorder) end)
    Enum.each(1..4, &:counters.put(route.agreement, 4 + &1, :counters.get(route.agreement, &1)))
    :atomics.put(flag, @changed_at, System.os_time(:millisecond))
    :atomics.put(flag, @mode, mode)
  end

  @doc "When the mode was set, in Unix milliseconds."
  @spec changed_at(t()) :: integer()
  def changed_at(%{flag: flag}), do: :atomics.get(flag, @changed_at)

  # --- the hot path --------------------------------------------------------------------------------------------------

  @spec enqueue(t(), term(), term()) :: :ok | {:error, term()}
  def enqueue(%__MODULE__{} = route, payload, key) do
    case Mode.route(mode(route)) do
      :legacy ->
        legacy(route, payload)

      :native ->
        native(route, payload)

      :shadow ->
        both(route, payload)

      share ->
        if Mode.native?(share, key(route, payload, key)), do: native(route, payload), else: legacy(route, payload)
    end
  end

  defp legacy(route, payload), do: route |> to_legacy(payload) |> elem(1)
  defp native(route, payload), do: route.recorders.native |> to_native(route.queue, payload) |> elem(1)

  defp key(%{key: nil}, payload, nil), do: payload
  defp key(%{key: fun}, payload, nil), do: fun.(payload)
  defp key(_route, _payload, key), do: key

  defp to_legacy(%{legacy: module, recorders: %{legacy: recorder}}, payload) do
    started = Recorder.start(recorder)

    try do
      module.enqueue(payload)
    catch
      # The caller sees what it always saw when the old queue was in trouble.
      kind, reason ->
        Recorder.stop(recorder, started, :error)
        :erlang.raise(kind, reason, __STACKTRACE__)
    else
      value ->
        {outcome, _} = answered = Legacy.answer(value)
        Recorder.stop(recorder, started, outcome)
        answered
    end
  end

  defp to_native(recorder, queue, payload) do
    started = Recorder.start(recorder)
    answer = PaymentQueue.enqueue(payload, queue: queue)
    outcome = if answer == :ok, do: :accepted, else: :refused
    Recorder.stop(recorder, started, outcome)
    {outcome, answer}
  end

  # The caller gets the legacy queue's answer, whatever becomes of the copy.
  defp both(route, payload) do
    {outcome, answer} = to_legacy(route, payload)
    {copied, _} = to_native(route.recorders.shadow, route.shadow, payload)
    :counters.add(route.agreement, said(outcome, copied), 1)
    answer
  end

  defp said(:accepted, :accepted), do: 1
  defp said(:accepted, _), do: 2
  defp said(_, :accepted), do: 3
  defp said(_, _), do: 4

  @doc "What both sides said to the calls in shadow mode."
  @spec agreement(t(), :start | :mode) :: map()
  def agreement(%{agreement: counters}, since) do
    for {name, slot} <- [both_accepted: 1, only_legacy: 2, only_native: 3, neither: 4], into: %{} do
      base = if since == :mode, do: :counters.get(counters, 4 + slot), else: 0
      {name, max(:counters.get(counters, slot) - base, 0)}
    end
  end
end
