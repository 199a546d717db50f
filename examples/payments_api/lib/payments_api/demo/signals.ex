defmodule PaymentsApi.Demo.Signals do
  @moduledoc """
  Turns SIGTERM into the message `:stop`, in place of OTP's handler, which would stop the VM in the middle of a payment.
  """

  @behaviour :gen_event

  @doc "From now on the calling process gets the message."
  @spec trap() :: :ok
  def trap, do: :gen_event.swap_handler(:erl_signal_server, {:erl_signal_handler, []}, {__MODULE__, self()})

  @impl true
  def init({owner, _handler_before}), do: {:ok, owner}

  @impl true
  def handle_event(:sigterm, owner) do
    send(owner, :stop)
    {:ok, owner}
  end

  # All other signals stay OTP's business.
  def handle_event(signal, owner) do
    :erl_signal_handler.handle_event(signal, [])
    {:ok, owner}
  end

  @impl true
  def handle_call(_request, owner), do: {:ok, :ok, owner}

  @impl true
  def handle_info(_message, owner), do: {:ok, owner}
end
