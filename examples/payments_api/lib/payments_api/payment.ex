defmodule PaymentsApi.Payment do
  @moduledoc """
  A payment as it travels through the queue, and how a request body becomes one.

  `ticket` is ours and new for every accepted request; `id` is the client's `correlationId`. The books are kept by
  ticket, so that a client who sends one `correlationId` twice is not mistaken for a queue that delivers twice.
  """

  alias PaymentsApi.{Cents, UUID}

  @type t :: %{ticket: pos_integer(), id: UUID.t(), cents: pos_integer()}
  @type problem :: {error :: String.t(), reason :: String.t()}

  @doc "Reads the body of `POST /payments`."
  @spec parse(binary()) :: {:ok, t()} | {:error, problem()}
  def parse(body) do
    with {:ok, fields} <- decode(body),
         {:ok, id} <- correlation_id(fields),
         {:ok, cents} <- amount(fields) do
      {:ok, %{ticket: System.unique_integer([:positive]), id: id, cents: cents}}
    end
  end

  defp decode(body) do
    case :jiffy.decode(body, [:return_maps]) do
      %{} = fields -> {:ok, fields}
      _other -> {:error, {"invalid_json", "the body must be a JSON object"}}
    end
  catch
    _kind, {position, reason} when is_integer(position) ->
      {:error, {"invalid_json", "at byte #{position}: #{reason}"}}

    _kind, _reason ->
      {:error, {"invalid_json", "the body must be a JSON object"}}
  end

  defp correlation_id(%{"correlationId" => text}) do
    with :error <- UUID.parse(text), do: {:error, {"invalid_field", "correlationId must be a UUID"}}
  end

  defp correlation_id(_fields), do: {:error, {"invalid_field", "correlationId is missing"}}

  defp amount(%{"amount" => amount}) do
    with {:error, reason} <- Cents.from_json(amount), do: {:error, {"invalid_field", reason}}
  end

  defp amount(_fields), do: {:error, {"invalid_field", "amount is missing"}}
end
