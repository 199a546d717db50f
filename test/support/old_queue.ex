defmodule PaymentQueue.OldQueue do
  @moduledoc false
  # Queues to migrate from. A legacy queue is a module without an instance, so each test gets a module of its own.

  import ExUnit.Callbacks, only: [start_supervised!: 2]

  alias PaymentQueue.Baseline.GenServerQueue

  @doc "A running baseline queue (`PaymentQueue.Baseline.GenServerQueue` or `EtsQueue`) behind a new module."
  def baseline!(kind \\ GenServerQueue, opts \\ []) do
    name = name()
    start_supervised!({kind, [name: name] ++ opts}, id: name)
    wrap(kind, name)
  end

  @doc "A new module around the baseline queue of that name."
  def wrap(kind, name) do
    define(
      name,
      quote do
        def enqueue(payload), do: unquote(kind).enqueue(payload, unquote(name))
        def stats, do: unquote(kind).stats(unquote(name))
        def take, do: unquote(kind).take(unquote(name))
      end
    )
  end

  @doc """
  A queue that asks the test: each call arrives as `{:legacy, pid, call}`, with `call` being `:take`, `:stats` or
  `{:enqueue, payload}`, and returns what `answer/2` says, or what that function returns.
  """
  def asking!(functions \\ [:enqueue, :stats, :take]) do
    test = self()
    name = name()
    :persistent_term.put({__MODULE__, name}, test)
    ExUnit.Callbacks.on_exit(fn -> :persistent_term.erase({__MODULE__, name}) end)

    define(
      name,
      quote do
        def enqueue(payload), do: unquote(__MODULE__).ask(unquote(name), {:enqueue, payload})
        def stats, do: unquote(__MODULE__).ask(unquote(name), :stats)
        if unquote(:take in functions), do: def(take, do: unquote(__MODULE__).ask(unquote(name), :take))
      end
    )
  end

  @doc "Answers the call of a queue that asks."
  def answer(pid, value), do: send(pid, {:answer, value})

  @doc false
  def ask(name, call) do
    send(:persistent_term.get({__MODULE__, name}), {:legacy, self(), call})

    receive do
      {:answer, fun} when is_function(fun, 0) -> fun.()
      {:answer, value} -> value
    after
      10_000 -> raise "the test did not answer #{inspect(call)}"
    end
  end

  @doc "A name that no queue had before."
  def name, do: :"#{inspect(__MODULE__)}.#{System.unique_integer([:positive])}"

  defp define(name, body) do
    Module.create(name, body, Macro.Env.location(__ENV__))
    name
  end
end
