defmodule PaymentQueue.Pipeline do
  @moduledoc false
  # A Broadway pipeline whose callbacks are functions of the test. Broadway is called by `apply/3`, because it is no
  # dependency.

  import ExUnit.Callbacks, only: [start_supervised!: 2]

  @doc """
  Starts a pipeline that takes from the queue. Options: `handle:` a function of the message, `batch:` a function of the
  messages of a batch, `failed:` a function of messages that failed, `producer:` options of `PaymentQueue.Producer`, `producers:` how many; all others are Broadway's.
  """
  def pipeline!(queue, opts) do
    {mine, opts} = Keyword.split(opts, [:handle, :batch, :failed, :producer, :producers, :rate_limiting, :processors])
    name = :"Pipeline.#{queue}"
    batch = mine[:batch]

    options =
      Keyword.merge(
        [
          name: name,
          context: %{handle: mine[:handle], batch: batch, failed: mine[:failed] || (& &1)},
          producer:
            [
              module: {PaymentQueue.Producer, Keyword.merge([queue: queue], mine[:producer] || [])},
              concurrency: mine[:producers] || 1
            ] ++ Keyword.take(mine, [:rate_limiting]),
          processors: [default: mine[:processors] || [concurrency: 2]],
          resubscribe_interval: 5
        ],
        opts
      )

    start_supervised!(
      %{id: name, start: {Broadway, :start_link, [__MODULE__, options]}, type: :supervisor, restart: :temporary},
      []
    )

    name
  end

  @doc "The pids of the pipeline's processes whose names contain the text."
  def processes(pipeline, text) do
    for name <- Process.registered(),
        String.starts_with?(Atom.to_string(name), "#{pipeline}.Broadway.#{text}"),
        pid = Process.whereis(name),
        do: pid
  end

  # The older of Broadway 1.x expect what `use Broadway` defines.
  def process_name(pipeline, base), do: :"#{pipeline}.Broadway.#{base}"

  def handle_message(_processor, message, context), do: context.handle.(message)
  def handle_batch(_batcher, messages, _info, context), do: context.batch.(messages)
  def handle_failed(messages, context), do: context.failed.(messages)
end
