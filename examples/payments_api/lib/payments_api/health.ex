defmodule PaymentsApi.Health do
  @moduledoc "The content of `GET /health`, from what a queue answers to `stats`."

  @spec content(%{queue_size: non_neg_integer(), in_flight: non_neg_integer()}) :: {200, keyword()}
  def content(%{queue_size: depth, in_flight: in_flight}) do
    {200, status: "ok", queue: {[queue_size: depth, in_flight: in_flight]}}
  end
end
