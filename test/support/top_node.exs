# A node with queues, for the test of `mix payment_queue.top`. Ends with its standard input.
Logger.configure(level: :none)
{:ok, _} = PaymentQueue.start_link(name: :payments, capacity: 40)
{:ok, _} = PaymentQueue.start_link(name: :refunds, handler: fn _ -> {:cancel, :declined} end, concurrency: 2)
{:ok, 10} = PaymentQueue.enqueue_many(Enum.to_list(1..10), queue: :payments)
:ok = PaymentQueue.enqueue("card 4711", queue: :refunds)
# Its one item is a dead letter then.
:ok = PaymentQueue.drain(:refunds, timeout: 5_000)
IO.puts("ready")
IO.read(:stdio, :line)
