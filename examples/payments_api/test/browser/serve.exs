# The demo's server with three queues in different states and a little load, for the browser test and for whoever works on
# the page: `mix run test/browser/serve.exs`. Prints the port; ends with its standard input.

alias PaymentsApi.{Books, Http}

defmodule Serve do
  def wait(ms) do
    receive do
    after
      ms -> :ok
    end
  end

  # Rises and falls, so that the charts have something to show.
  def load(queue, tick \\ 0) do
    wave = round(6 + 5 * :math.sin(tick / 40) + :rand.uniform(3))
    PaymentQueue.enqueue_many(Enum.to_list(1..wave), queue: queue)
    wait(20)
    load(queue, tick + 1)
  end

  def slow(_payment) do
    wait(10 + :rand.uniform(20))
    :ok
  end

  def refuse(n), do: {:cancel, Enum.at([:account_closed, {:declined, "no funds", 51}, :unknown_iban], rem(n, 3))}
end

defmodule Serve.Queue do
  def name, do: :payments
  def stats, do: PaymentQueue.stats(:payments)
end

Logger.configure(level: :critical)
{:ok, _} = Books.start_link([])
{:ok, _} = PaymentQueue.start_link(name: :payments, handler: &Serve.slow/1, concurrency: 8, capacity: 5_000)
{:ok, _} = PaymentQueue.start_link(name: :refunds, handler: &Serve.refuse/1, concurrency: 2)
{:ok, _} = PaymentQueue.start_link(name: MyApp.Webhooks)
{:ok, 25} = PaymentQueue.enqueue_many(Enum.to_list(1..25), queue: :refunds)
{:ok, 7} = PaymentQueue.enqueue_many(Enum.to_list(1..7), queue: MyApp.Webhooks)
:ok = PaymentQueue.pause(MyApp.Webhooks)
spawn_link(fn -> Serve.load(:payments) end)

{:ok, _} = Http.start_link(queue: Serve.Queue, operators: "--view-only" not in System.argv())
IO.puts("port #{Http.port()}")
IO.read(:stdio, :line)
