import Config

# The tests start the app themselves, in each of its three forms.
if config_env() != :test do
  config :plug_app,
    stage: System.get_env("STAGE", "before"),
    port: String.to_integer(System.get_env("PORT", "4000")),
    operator_token: System.get_env("OPERATOR_TOKEN")
end
