defmodule PaymentsApi.Demo.Verdict do
  @moduledoc """
  What became of the payments that were accepted, and whether anything is wrong with that.

  Three books are compared that know nothing of each other: what the API said yes to, what the workers finished, and what
  the processors charged. The queue's own counters are a fourth. Collected when all is quiet.
  """

  alias PaymentsApi.{Attempts, Ledger, Meter}
  alias PaymentsApi.Demo.Load

  @enforce_keys [:drained, :counts, :paid, :dead, :charged, :paid_twice, :account, :load]
  defstruct @enforce_keys

  @type amount :: {count :: integer(), cents :: integer()}

  @type t :: %__MODULE__{
          drained: :ok | {:error, :timeout},
          counts: %{atom() => integer()},
          paid: amount(),
          dead: amount(),
          charged: %{Ledger.processor() => Ledger.total()},
          paid_twice: non_neg_integer(),
          account: %{atom() => integer()},
          load: {:ok, Load.report()} | {:error, String.t()} | nil
        }

  @doc "Collects the books. `before` is the queue's account before the run."
  @spec collect(module(), map(), :ok | {:error, :timeout}, {:ok, Load.report()} | {:error, String.t()} | nil) :: t()
  def collect(queue, before, drained, load) do
    %__MODULE__{
      drained: drained,
      counts: Meter.all(),
      paid: Attempts.paid(),
      dead: amount(Enum.reject(queue.dead(), &Attempts.paid?/1)),
      charged: Map.new(Ledger.processors(), &{&1, Ledger.total(&1)}),
      paid_twice: Ledger.paid_twice(),
      account: Map.new(queue.account(), fn {key, n} -> {key, n - Map.get(before, key, 0)} end),
      load: load
    }
  end

  defp amount(payments), do: {length(payments), payments |> Enum.map(& &1.cents) |> Enum.sum()}

  @doc "Accepted, but neither settled nor a dead letter."
  @spec lost(t()) :: integer()
  def lost(%{counts: %{accepted: accepted}, paid: {settled, _}, dead: {dead, _}}), do: accepted - settled - dead

  @doc "Charges of which no worker has lived to report: of lost payments, where the queue doesn't hand them out again."
  @spec charged_unknown(t()) :: integer()
  def charged_unknown(%{paid: {settled, _}, counts: %{repeated: repeated}} = verdict) do
    charged(verdict, :count) - (settled - repeated)
  end

  @doc "Cents that were accepted but neither charged nor given up."
  @spec missing_cents(t()) :: integer()
  def missing_cents(%{counts: counts, dead: {_, dead}} = verdict) do
    counts.accepted_cents - counts.repeated_cents - dead - charged(verdict, :cents)
  end

  @spec charged(t(), :count | :cents) :: non_neg_integer()
  def charged(verdict, key), do: verdict.charged |> Map.values() |> Enum.map(&Map.fetch!(&1, key)) |> Enum.sum()

  @doc "What is wrong, in words; none if all is well."
  @spec faults(t()) :: [String.t()]
  def faults(verdict) do
    counts = verdict.counts

    List.flatten([
      fault(verdict.drained != :ok, "the queue was not drained in time"),
      fault(lost(verdict) > 0, "#{lost(verdict)} accepted payments are lost"),
      fault(lost(verdict) < 0, "#{-lost(verdict)} payments were handled that nobody accepted"),
      fault(verdict.paid_twice > 0, "#{verdict.paid_twice} payments were charged twice"),
      fault(counts.overlapped > 0, "#{counts.overlapped} times two workers had the same payment"),
      fault(counts.redelivered > 0, "#{counts.redelivered} payments were delivered again after their ack"),
      fault(charged_unknown(verdict) != 0, "#{charged_unknown(verdict)} charges are not known to have been settled"),
      fault(missing_cents(verdict) != 0, "the money accepted and the money charged or given up differ"),
      disagreements(verdict),
      witness(verdict)
    ])
  end

  defp fault(true, text), do: text
  defp fault(false, _text), do: []

  defp disagreements(%{account: account} = verdict) do
    {settled, _} = verdict.paid
    {dead, _} = verdict.dead

    for {key, ours} <- [enqueued: verdict.counts.accepted, settled: settled, dead: dead],
        theirs = account[key],
        theirs != ours,
        do: "the queue counted #{theirs} #{key}, the application #{ours}"
  end

  # A request that was under way when the load generator hung up may have been accepted without its knowledge. The other
  # way round, a 204 for a payment that the server doesn't know, would be a lost payment.
  defp witness(%{load: {:ok, load}, counts: %{accepted: accepted}}) do
    unseen = accepted - load.accepted

    fault(
      unseen < 0 or unseen > load.cut + load.broken,
      "#{load.by} saw #{load.accepted} payments accepted, the server counted #{accepted}"
    )
  end

  defp witness(%{load: {:error, reason}}), do: "the load generator failed: #{reason}"
  defp witness(%{load: nil}), do: []
end
