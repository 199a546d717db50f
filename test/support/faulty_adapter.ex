defmodule PaymentQueue.FaultyAdapter do
  @moduledoc """
  Queues with faults that the benches must not measure as if they were none: the ETS queue, whose `put/2` goes wrong for one
  item of each thousand.
  """

  alias PaymentQueue.Bench.{Adapter, EtsAdapter, Payload}

  defmacro __using__(name: name, put: put) do
    delegated =
      for {function, arity} <- Adapter.behaviour_info(:callbacks), {function, arity} not in [name: 0, put: 2] do
        arguments = Macro.generate_arguments(arity, __MODULE__)

        quote do
          @impl Adapter
          defdelegate unquote(function)(unquote_splicing(arguments)), to: EtsAdapter
        end
      end

    quote do
      @behaviour PaymentQueue.Bench.Adapter

      alias PaymentQueue.Bench.{Adapter, EtsAdapter}

      @impl Adapter
      def name, do: unquote(name)

      @impl Adapter
      def put(handle, payload), do: unquote(put).(handle, payload)

      unquote_splicing(delegated)
    end
  end

  @doc "Does this to the payments whose id asks for it, and puts all others."
  @spec put(term(), term(), (() -> :ok)) :: :ok | {:error, :queue_full}
  def put(handle, payload, wrongly) do
    id = Payload.id_of(payload)
    if id != :stop and rem(id, 1_000) == 7, do: wrongly.(), else: EtsAdapter.put(handle, payload)
  end
end

defmodule PaymentQueue.LosingAdapter do
  @moduledoc "Says `:ok` and forgets the item."
  use PaymentQueue.FaultyAdapter, name: "losing", put: &PaymentQueue.FaultyAdapter.put(&1, &2, fn -> :ok end)
end

defmodule PaymentQueue.DoublingAdapter do
  @moduledoc "Queues the item twice."
  use PaymentQueue.FaultyAdapter, name: "doubling", put: &__MODULE__.double/2

  @doc false
  @spec double(term(), term()) :: :ok | {:error, :queue_full}
  def double(handle, payload) do
    PaymentQueue.FaultyAdapter.put(handle, payload, fn ->
      EtsAdapter.put(handle, payload)
      EtsAdapter.put(handle, payload)
    end)
  end
end

defmodule PaymentQueue.ChangingAdapter do
  @moduledoc "Hands out another payment than the one it was given."
  use PaymentQueue.FaultyAdapter, name: "changing", put: &__MODULE__.change/2

  @doc false
  @spec change(term(), term()) :: :ok | {:error, :queue_full}
  def change(handle, payload) do
    PaymentQueue.FaultyAdapter.put(handle, payload, fn ->
      EtsAdapter.put(handle, PaymentQueue.Bench.Payload.with_id(payload, 0))
    end)
  end
end
