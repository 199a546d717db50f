defmodule PlugApp.Application do
  @moduledoc false
  use Application

  @impl true
  def start(_type, _args) do
    env = Application.get_all_env(:plug_app)
    children = if env[:stage], do: [{PlugApp, Keyword.take(env, [:stage, :port, :operator_token])}], else: []
    Supervisor.start_link(children, strategy: :one_for_one)
  end
end
