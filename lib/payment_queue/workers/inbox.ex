defmodule PaymentQueue.Workers.Inbox do
  @moduledoc false
  # A worker's mailbox: the order to stop, what the NIF delivers, and whatever handlers left behind, which is dropped so
  # that it neither accumulates nor crashes anything.

  require Logger

  alias PaymentQueue.{Operations, Taking}

  @go {:payment_queue, :go}
  @stop {:payment_queue, :stop}

  @doc "Lets a new worker begin, now that it is monitored: its first item may be the one that kills it."
  @spec go(pid()) :: :ok
  def go(worker) do
    send(worker, @go)
    :ok
  end

  @doc "Where a new worker waits for `go/1`."
  @spec await_go(pid()) :: :ok
  def await_go(parent) do
    receive do
      @go -> :ok
      {:EXIT, ^parent, _reason} -> exit(:shutdown)
    end
  end

  @doc "Asks a worker to stop after its item."
  @spec stop(pid()) :: :ok
  def stop(worker) do
    send(worker, @stop)
    :ok
  end

  @doc "Empties the mailbox without waiting. True: stop now."
  @spec stop?(pid()) :: boolean()
  def stop?(parent) do
    receive do
      message -> stop_message?(message, parent) or stop?(parent)
    after
      0 -> false
    end
  end

  @doc "What a parked worker is woken by. Its token is used up afterwards."
  @spec await(atom(), pid(), pos_integer(), integer() | :infinity) ::
          {:delivered, Taking.delivery()} | :timeout | :stop
  def await(queue, parent, token, deadline) do
    receive do
      {:payment_queue, :delivered, ^token, delivery} ->
        {:delivered, delivery}

      message ->
        if stop_message?(message, parent),
          do: leave(queue, token, :stop),
          else: await(queue, parent, token, deadline)
    after
      Taking.remaining(deadline) -> leave(queue, token, :timeout)
    end
  end

  defp leave(queue, token, why) do
    with :delivered <- Operations.call(queue, :unpark, [token]) do
      receive do
        {:payment_queue, :delivered, ^token, delivery} -> late(why, delivery)
      end
    else
      :ok -> why
    end
  end

  defp late(:stop, delivery) do
    Taking.give_back(delivery)
    :stop
  end

  defp late(:timeout, delivery), do: {:delivered, delivery}

  defp stop_message?(@stop, _parent), do: true
  defp stop_message?({:EXIT, parent, _reason}, parent), do: true
  # Linked processes of a handler, gone by whatever end: the handler's own business.
  defp stop_message?({:EXIT, _other, _reason}, _parent), do: false

  defp stop_message?(message, _parent) do
    Logger.debug(fn -> "PaymentQueue: a handler left a message behind: " <> PaymentQueue.Reason.describe(message) end)
    false
  end
end
