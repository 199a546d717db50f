import Config

# Of this repository alone; an application that depends on PaymentQueue says for itself which engines it wants built.
if config_env() == :test or System.get_env("PAYMENT_QUEUE_ENGINES") == "nats",
  do: config(:payment_queue, engines: [:nats])
