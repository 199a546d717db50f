defmodule PaymentQueue.BroadwayGuideTest do
  # Runs the code of guides/broadway.md, with the real Broadway and a gateway that does what the payment says.
  use PaymentQueue.QueueCase, async: false

  @moduletag :broadway

  @guide Path.expand("../../guides/broadway.md", __DIR__)

  @application """
  defmodule MyApp.Gateway do
    def pay(%{account: :unknown}), do: {:error, :unknown_account}

    def pay(%{id: id}) do
      send(:guide_test, {:paid, id})
      :ok
    end
  end

  defmodule MyApp.Ledger do
    # Books each refund, but number 7 not together with others: it is tried again until it comes alone.
    def book(refunds) do
      ids = Enum.map(refunds, & &1.id)
      send(:guide_test, {:booked, ids})
      if length(ids) > 1, do: ids -- [7], else: ids
    end
  end

  defmodule MyApp.Await do
    defdelegate dead_letters(queue, n), to: PaymentQueue.QueueCase
  end
  """

  test "the code on the page does what the page says" do
    Process.register(self(), :guide_test)
    Code.eval_string(@application)
    blocks = Regex.scan(~r/^```elixir\n(.*?)^```$/ms, File.read!(@guide), capture: :all_but_first)
    assert length(blocks) == 6
    Enum.reduce(blocks, [], fn [code], binding -> code |> Code.eval_string(binding, file: @guide) |> elem(1) end)

    for id <- [1, 11, 12, 13], do: assert_receive({:paid, ^id})
    refute_received {:paid, _}
    eventually(fn -> PaymentQueue.info(:refunds).settled == 250 end)
    assert %{redelivered: again, in_flight: 0} = assert_conserved(:refunds)
    assert again > 0
    eventually(fn -> PaymentQueue.info(:staged).settled == 3 end)
  end
end
