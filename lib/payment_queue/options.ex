defmodule PaymentQueue.Options do
  @moduledoc false
  # The library's own option schemas: one place that says which options exist, what they accept, and what they default
  # to. Nothing here runs on the hot path; `PaymentQueue` matches the frequent option lists in function heads.

  @max_items 134_217_727
  @max_bytes 17_179_869_183
  @max_payload 1_073_741_823
  @max_attempts 65_535
  @max_dead 10_000_000
  @max_workers 65_535
  @max_ms 4_294_967_295
  @max_name 200
  @max_rate 100_000

  @max_priorities 16

  @default_max_payload 1_048_576

  # Settings of the native queue, in the order of `t:PaymentQueue.Native.settings/0`.
  @settings [:capacity, :max_bytes, :max_payload_bytes, :max_attempts, :max_dead, :rate_limit, :unique_for, :priorities]

  # The settings that the NATS server keeps, in the order of `t:PaymentQueue.Nats.Native.limits/0`, and all options of a queue
  # there and of its calls. What comes later is not among them until somebody says so.
  @limits [:capacity, :max_bytes, :max_payload_bytes, :max_attempts, :max_dead]
  @in_nats [:name, :engine, :handler, :concurrency, :handler_timeout, :backoff, :batch, :shutdown, :telemetry | @limits]
  @call_in_nats [:queue, :delay, :timeout]

  # Those that can change while the queue runs.
  @live @settings -- [:priorities]

  @start [
    name: {:name, :default},
    capacity: {{:integer, 1, @max_items}, 10_000},
    max_bytes: {{:integer, 1, @max_bytes}, 268_435_456},
    max_payload_bytes: {{:integer, 1, @max_payload}, @default_max_payload},
    max_attempts: {{:integer, 1, @max_attempts}, 20},
    max_dead: {{:integer, 0, @max_dead}, 1_000},
    rate_limit: {:rate_limit, nil},
    unique_for: {{:optional, 0, @max_ms}, nil},
    priorities: {{:integer, 1, @max_priorities}, 1},
    handler: {:handler, nil},
    concurrency: {{:integer, 0, @max_workers}, nil},
    handler_timeout: {{:timeout, 1}, :infinity},
    backoff: {:backoff, []},
    batch: {:batch, []},
    shutdown: {{:timeout, 0}, 15_000},
    telemetry: {:telemetry, []},
    engine: {:engine, nil},
    durability: {{:one_of, [:none, :async, :sync]}, :none},
    dir: {:dir, nil}
  ]

  # What may be said of an item that is enqueued, apart from what has another form for many.
  @item [
    queue: {:name, :default},
    delay: {{:integer, 0, @max_ms}, 0},
    priority: {{:integer, 0, @max_priorities - 1}, 0},
    timeout: {{:timeout, 1}, 5_000}
  ]

  @calls %{
    enqueue: @item ++ [key: {:any, nil}, partition: {:any, nil}],
    enqueue_many: @item ++ [key: {:of_payload, nil}, partition: {:of_payload, nil}],
    take: [queue: {:name, :default}, timeout: {{:timeout, 0}, 0}, ack: {:lease, nil}],
    take_many: [queue: {:name, :default}, timeout: {{:timeout, 0}, 0}],
    dequeue: [queue: {:name, :default}, timeout: {{:timeout, 0}, 0}],
    nack: [delay: {{:integer, 0, @max_ms}, 0}],
    flush: [timeout: {{:timeout, 0}, 5_000}],
    drain: [timeout: {{:timeout, 0}, nil}],
    drain_queue: [
      queue: {:name, :default},
      handler: {:handler, nil},
      with_retries: {:boolean, false},
      limit: {{:timeout, 1}, :infinity}
    ],
    all_enqueued: [queue: {:name, :default}],
    attach_default_logger: [level: {:log_level, :info}, events: {:telemetry_events, :all}, encode: {:boolean, false}]
  }

  # In their final form as they stand, so that no call need bring them there.
  @call_defaults Map.new(@calls, fn {call, schema} ->
                   {call, Map.new(schema, fn {option, {_type, default}} -> {option, default} end)}
                 end)

  @producer [
    queue: {:name, :default},
    on_success: {:on_success, :ack},
    on_failure: {:on_failure, :retry},
    backoff: {:backoff, nil}
  ]

  # Announced for later versions. What each may be today without asking for the feature.
  @later [
    order: [:fifo]
  ]

  @doc "Validates the options of `PaymentQueue.start_link/1` and fills in the defaults."
  @spec start!(keyword()) :: map()
  def start!(opts) do
    config = opts |> validate!(@start, "PaymentQueue.start_link/1") |> bound_payload!(opts) |> place!()
    with_engine!(%{config | concurrency: config.concurrency || 2 * System.schedulers_online()})
  end

  defp with_engine!(%{engine: nil} = config), do: config

  defp with_engine!(config) do
    engine = PaymentQueue.Nats.Options.validate!(config.engine, config)
    %{plain!(config, @start, @in_nats, "PaymentQueue.start_link/1") | engine: engine}
  end

  @doc "A call's options, if a queue in NATS knows all that they ask for."
  @spec in_nats!(map(), atom()) :: map()
  def in_nats!(call, name), do: plain!(call, Map.fetch!(@calls, name), @call_in_nats, "PaymentQueue.#{name}")

  @doc "The settings of a native queue, if a queue in NATS knows all that they ask for; what it knows, in its order."
  @spec settings_in_nats!(PaymentQueue.Native.settings()) :: PaymentQueue.Nats.Native.limits()
  def settings_in_nats!(settings) do
    config = @settings |> Enum.zip(Tuple.to_list(settings)) |> Map.new()
    _ = plain!(config, Keyword.take(@start, @settings), @limits, "PaymentQueue.configure/2")
    @limits |> Enum.map(&Map.fetch!(config, &1)) |> List.to_tuple()
  end

  @doc "The settings of a native queue out of those of one in NATS."
  @spec settings_of_nats(PaymentQueue.Nats.Native.limits()) :: PaymentQueue.Native.settings()
  def settings_of_nats(limits) do
    known = @limits |> Enum.zip(Tuple.to_list(limits)) |> Map.new()
    @start |> Keyword.take(@settings) |> defaults() |> Map.merge(known) |> settings()
  end

  # What is not among the supported options must be as if nobody had named it: refused rather than ignored.
  defp plain!(config, schema, supported, where) do
    for {key, {_type, default}} <- schema, key not in supported, Map.fetch!(config, key) != default do
      raise ArgumentError,
            "option #{inspect(key)} of #{where} is not supported by the engine :nats (got: #{show(config[key])}); " <>
              "leave it out. Supported: #{Enum.map_join(supported, ", ", &inspect/1)}"
    end

    config
  end

  @doc "Validates the options of one call and fills in the defaults."
  @spec call!(atom(), keyword()) :: map()
  def call!(call, opts), do: merge!(opts, Map.fetch!(@calls, call), Map.fetch!(@call_defaults, call), {:call, call})

  @doc "Validates the options of an integration by a schema of its own: `option: {type, default}`."
  @spec own!(keyword(), keyword(), String.t()) :: map()
  def own!(opts, schema, where), do: validate!(opts, schema, where)

  @doc "Validates the options of `PaymentQueue.Producer` and fills in the defaults, but for the backoff."
  @spec producer!(keyword()) :: map()
  def producer!(opts), do: validate!(opts, @producer, "PaymentQueue.Producer")

  @doc "Validates what `Broadway.Message.configure_ack/2` asks for. Nothing is filled in."
  @spec acknowledge!(keyword()) :: map()
  def acknowledge!(opts) do
    schema = Keyword.take(@producer, [:on_success, :on_failure])
    opts |> validate!(schema, "Broadway.Message.configure_ack/2") |> Map.take(Keyword.keys(opts))
  end

  @doc "The settings of the native queue out of validated options."
  @spec settings(map()) :: PaymentQueue.Native.settings()
  def settings(config), do: @settings |> Enum.map(&Map.fetch!(config, &1)) |> List.to_tuple()

  @doc "One of the settings of the native queue."
  @spec setting(PaymentQueue.Native.settings(), atom()) :: term()
  def setting(settings, key), do: elem(settings, Enum.find_index(@settings, &(&1 == key)))

  @doc "The settings that `PaymentQueue.configure/2` asks for, on top of the present ones."
  @spec reconfigure!(keyword(), PaymentQueue.Native.settings()) :: PaymentQueue.Native.settings()
  def reconfigure!(opts, present) do
    keyword!(opts, "PaymentQueue.configure/2")
    Enum.each(opts, fn {key, _} -> live!(key) end)
    schema = Keyword.take(@start, @live)
    validate!(opts, schema, "PaymentQueue.configure/2")
    merged = @settings |> Enum.zip(Tuple.to_list(present)) |> Map.new() |> Map.merge(Map.new(opts))
    merged |> bound_payload!(opts) |> settings()
  end

  @doc "A queue name, or an `ArgumentError` that says what a name is."
  @spec name!(term(), atom()) :: atom()
  def name!(value, option \\ :queue), do: check!(:name, option, value)

  @doc "A count between the bounds, for the positional arguments of the API."
  @spec count!(term(), atom(), non_neg_integer(), non_neg_integer()) :: non_neg_integer()
  def count!(value, name, min, max), do: check!({:integer, min, max}, name, value)

  @doc "The most workers that one queue may have."
  @spec max_workers() :: pos_integer()
  def max_workers, do: @max_workers

  @doc "The most items that one queue may hold."
  @spec max_items() :: pos_integer()
  def max_items, do: @max_items

  @doc "The longest delay or timeout, in milliseconds (49.7 days, as in `receive ... after`)."
  @spec max_ms() :: pos_integer()
  def max_ms, do: @max_ms

  # --- the validator ---------------------------------------------------------------------------------------------

  defp validate!(opts, schema, where) do
    merge!(opts, schema, defaults(schema), where)
  end

  defp merge!(opts, schema, defaults, where) do
    keyword!(opts, where)

    Enum.reduce(opts, defaults, fn {key, value}, acc ->
      case List.keyfind(schema, key, 0) do
        {_, {type, _}} ->
          Map.put(acc, key, check!(type, key, value))

        nil ->
          later!(key, value, schema, where)
          acc
      end
    end)
  end

  # Through the same checks, which also bring a value into its final form.
  defp defaults(schema),
    do: Map.new(schema, fn {key, {type, default}} -> {key, if(default != nil, do: check!(type, key, default))} end)

  # Said only where something is wrong.
  defp where({:call, :attach_default_logger}), do: "PaymentQueue.Telemetry.attach_default_logger"
  defp where({:call, call}), do: "PaymentQueue.#{call}"
  defp where(where), do: where

  defp keyword!(opts, where) do
    unless Keyword.keyword?(opts) do
      raise ArgumentError, "#{where(where)} expects its options as a keyword list, got: #{show(opts)}"
    end
  end

  defp later!(key, value, schema, where) do
    case List.keyfind(@later, key, 0) do
      nil ->
        raise ArgumentError,
              "unknown option #{inspect(key)} for #{where(where)}. " <> suggest(key, Keyword.keys(schema))

      {_, allowed} ->
        unless value in allowed do
          raise ArgumentError,
                "option #{inspect(key)} is not supported yet by #{where(where)} (got: #{show(value)}); leave it out"
        end
    end
  end

  defp live!(key) do
    cond do
      key in @live ->
        :ok

      Keyword.has_key?(@start, key) or Keyword.has_key?(@later, key) ->
        raise ArgumentError,
              "option #{inspect(key)} cannot change on a live queue#{instead(key)}; " <>
                "what can: #{Enum.map_join(@live, ", ", &inspect/1)}"

      true ->
        raise ArgumentError, "unknown option #{inspect(key)} for PaymentQueue.configure/2. " <> suggest(key, @live)
    end
  end

  defp instead(:concurrency), do: " by configure/2 (PaymentQueue.scale/2 changes it)"
  defp instead(_), do: ""

  defp suggest(key, known) do
    text = to_string(key)
    {score, best} = known |> Enum.map(&{String.jaro_distance(text, to_string(&1)), &1}) |> Enum.max()

    if score >= 0.75,
      do: "Did you mean #{inspect(best)}?",
      else: "Known options: #{Enum.map_join(known, ", ", &inspect/1)}"
  end

  # An explicit pair that contradicts itself is an error; a default gives way.
  defp bound_payload!(%{max_payload_bytes: payload, max_bytes: bytes} = config, _opts) when payload <= bytes, do: config

  defp bound_payload!(%{max_bytes: bytes} = config, opts) do
    if Keyword.has_key?(opts, :max_payload_bytes) do
      invalid!(:max_payload_bytes, config.max_payload_bytes, "at most :max_bytes, which is #{bytes}")
    else
      %{config | max_payload_bytes: bytes}
    end
  end

  # What is on disk has a place there, and what is not has none.
  defp place!(%{durability: :none, dir: nil} = config), do: config
  defp place!(%{durability: :none, dir: dir}), do: invalid!(:dir, dir, "nothing without durability: :async or :sync")
  defp place!(%{durability: durability, dir: nil}), do: invalid!(:durability, durability, ":none without dir:")
  defp place!(config), do: config

  # --- types -------------------------------------------------------------------------------------------------------

  defp check!(:name, option, value) do
    if is_atom(value) and value not in [nil, true, false] and byte_size(Atom.to_string(value)) in 1..@max_name,
      do: value,
      else: invalid!(option, value, "an atom of 1 to #{@max_name} bytes, not nil, true or false")
  end

  defp check!({:integer, min, max}, option, value) do
    if is_integer(value) and value >= min and value <= max,
      do: value,
      else: invalid!(option, value, "an integer in #{min}..#{max}")
  end

  defp check!({:timeout, _min}, _option, :infinity), do: :infinity

  defp check!({:timeout, min}, option, value) do
    if is_integer(value) and value >= min and value <= @max_ms,
      do: value,
      else: invalid!(option, value, "milliseconds in #{min}..#{@max_ms}, or :infinity")
  end

  defp check!(:boolean, _option, value) when is_boolean(value), do: value
  defp check!(:boolean, option, value), do: invalid!(option, value, "true or false")

  defp check!({:one_of, allowed}, option, value) do
    if value in allowed, do: value, else: invalid!(option, value, Enum.map_join(allowed, ", ", &inspect/1))
  end

  defp check!(:dir, _option, nil), do: nil

  defp check!(:dir, option, value) do
    if is_binary(value) and value != "" and String.valid?(value) and not String.contains?(value, <<0>>),
      do: Path.expand(value),
      else: invalid!(option, value, "the path of a directory, as a string")
  end

  # The function answers `{:ok, value}` or `{:error, what is allowed}`.
  defp check!({:custom, fun}, option, value) do
    case fun.(value) do
      {:ok, value} -> value
      {:error, allowed} -> invalid!(option, value, allowed)
    end
  end

  defp check!({:optional, _, _}, _option, nil), do: nil

  defp check!({:optional, min, max}, option, value) do
    if is_integer(value) and value >= min and value <= max,
      do: value,
      else: invalid!(option, value, "an integer in #{min}..#{max}, or nil")
  end

  defp check!(:any, _option, value), do: value

  defp check!(:of_payload, _option, value) when is_nil(value) or is_function(value, 1), do: value
  defp check!(:of_payload, option, value), do: invalid!(option, value, "a function of the payload")

  defp check!(:rate_limit, _option, nil), do: nil

  defp check!(:rate_limit, _option, {n, ms} = limit)
       when is_integer(n) and n in 1..@max_rate and is_integer(ms) and ms in 1..@max_ms,
       do: limit

  defp check!(:rate_limit, option, value),
    do: invalid!(option, value, "{n, ms} with n in 1..#{@max_rate} and ms in 1..#{@max_ms}, or nil")

  defp check!(:engine, _option, value), do: value

  defp check!(:lease, _option, {_, _, _} = lease), do: lease
  defp check!(:lease, _option, {:nats, _, _, _} = lease), do: lease
  defp check!(:lease, option, value), do: invalid!(option, value, "a lease that take gave out")

  defp check!(:handler, _option, nil), do: nil

  defp check!(:handler, option, value) do
    case PaymentQueue.Handler.new(value) do
      {:ok, fun} -> fun
      {:error, allowed} -> invalid!(option, value, allowed)
    end
  end

  defp check!(:backoff, option, value) do
    case PaymentQueue.Backoff.new(value) do
      {:ok, backoff} -> backoff
      {:error, allowed} -> invalid!(option, value, allowed)
    end
  end

  defp check!(:batch, option, value) do
    unless Keyword.keyword?(value), do: invalid!(option, value, "[size: n, wait: ms]")
    schema = [size: {{:integer, 1, 10_000}, 1}, wait: {{:integer, 0, @max_ms}, 0}]
    validate!(value, schema, "option :batch")
  end

  defp check!(:telemetry, option, value) do
    unless Keyword.keyword?(value), do: invalid!(option, value, "[spans: boolean, interval: ms, payload: boolean]")
    schema = [spans: {:boolean, true}, interval: {{:timeout, 1}, 10_000}, payload: {:boolean, false}]
    validate!(value, schema, "option :telemetry")
  end

  defp check!(:on_success, _option, value) when value in [:ack, :noop], do: value
  defp check!(:on_success, option, value), do: invalid!(option, value, ":ack or :noop")

  defp check!(:on_failure, _option, value) when value in [:retry, :reject, :ack, :noop], do: value
  defp check!(:on_failure, _option, {:retry, ms} = value) when is_integer(ms) and ms in 0..@max_ms, do: value

  defp check!(:on_failure, option, value),
    do: invalid!(option, value, ":retry, {:retry, ms} with ms in 0..#{@max_ms}, :reject, :ack or :noop")

  defp check!(:log_level, option, value) do
    levels = [:emergency, :alert, :critical, :error, :warning, :notice, :info, :debug]
    if value in levels, do: value, else: invalid!(option, value, Enum.map_join(levels, ", ", &inspect/1))
  end

  defp check!(:telemetry_events, option, value) do
    categories = [:item, :batch, :enqueue, :worker, :queue]

    if value == :all or (is_list(value) and Enum.all?(value, &(&1 in categories))),
      do: value,
      else: invalid!(option, value, ":all or a list of #{Enum.map_join(categories, ", ", &inspect/1)}")
  end

  @doc "Raises what is wrong with an option, and says what is allowed."
  @spec invalid!(atom(), term(), String.t()) :: no_return()
  def invalid!(option, value, allowed) do
    raise ArgumentError, "invalid value for #{inspect(option)}: #{show(value)}; allowed: #{allowed}"
  end

  defp show(value), do: inspect(value, limit: 5, printable_limit: 100)
end
