defmodule PaymentQueue.LiveDashboard do
  @moduledoc """
  A page for `Phoenix.LiveDashboard` (0.8): the queues of the node that is looked at, with their rates since the last
  refresh.

      defmodule MyAppWeb.QueuesPage do
        use PaymentQueue.LiveDashboard
      end

      # in the router
      live_dashboard "/dashboard", additional_pages: [queues: MyAppWeb.QueuesPage]

  The page is made in your application, because Mix does not say which of two dependencies it compiles first. Where
  LiveDashboard was there when PaymentQueue was compiled, `PaymentQueue.LiveDashboard.Page` is that page ready-made.

  It is for looking; `PaymentQueue.Plug.Dashboard` shows charts and dead letters, and operates the queues.
  """

  alias PaymentQueue.Snapshot

  @typedoc "The snapshots of the look before, by queue."
  @type state :: %{optional(PaymentQueue.queue()) => Snapshot.t()}

  # The sigil is expanded where the module that uses this one is compiled, with Phoenix.Component there.
  defmacro __using__(_opts) do
    quote do
      use Phoenix.LiveDashboard.PageBuilder

      @impl true
      def init(_opts), do: {:ok, %{}, module: PaymentQueue.Snapshot}

      # A node of the cluster that has no PaymentQueue has no such page.
      @impl true
      def menu_link(_session, capabilities),
        do: if(PaymentQueue.Snapshot in capabilities.modules, do: {:ok, "Payment queues"}, else: :skip)

      @impl true
      def render(var!(assigns)) do
        var!(assigns) = assign(var!(assigns), :fetcher, {&PaymentQueue.LiveDashboard.rows/3, %{}})

        ~H"""
        <.live_table
          id="payment-queues"
          dom_id="payment-queues"
          page={@page}
          title="Payment queues"
          rows_name="queues"
          row_fetcher={@fetcher}
          default_sort_by={:name}
        >
          <:col field={:name} header="Queue" sortable={:asc} />
          <:col field={:state} header="State" />
          <:col field={:waiting} header="Waiting" sortable={:desc} text_align="right" />
          <:col field={:in_flight} header="In flight" sortable={:desc} text_align="right" />
          <:col field={:dead} header="Dead letters" sortable={:desc} text_align="right" />
          <:col field={:full} header="Full, %" sortable={:desc} text_align="right" />
          <:col field={:done} header="Done/s" sortable={:desc} text_align="right" />
          <:col field={:refused} header="Refused/s" text_align="right" />
          <:col field={:wait_p99} header="Wait 99 %, ms" text_align="right" />
          <:col field={:handler_p99} header="Handler 99 %, ms" text_align="right" />
          <:col field={:workers} header="Workers" text_align="right" />
          <:col field={:parked} header="Parked" text_align="right" />
          <:col field={:scheduled} header="Scheduled" text_align="right" />
        </.live_table>
        """
      end
    end
  end

  @doc """
  The rows of the table: what `params` ask for of the queues on `node`, how many there are, and the state for the next
  look.
  """
  @spec rows(map(), node(), state()) :: {[map()], non_neg_integer(), state()}
  def rows(params, node, before) do
    snapshots = Snapshot.all(node)

    rows =
      for snapshot <- snapshots, row = row(snapshot, before[snapshot.queue]), matches?(row, params[:search]), do: row

    sorted = Enum.sort_by(rows, &Map.fetch!(&1, params[:sort_by] || :name), params[:sort_dir] || :asc)
    {Enum.take(sorted, params[:limit] || length(sorted)), length(rows), Map.new(snapshots, &{&1.queue, &1})}
  end

  defp matches?(row, search), do: search in [nil, ""] or String.contains?(row.name, search)

  defp row(%{info: info} = snapshot, before) do
    change = before && Snapshot.change(before, snapshot)

    %{
      name: Snapshot.label(snapshot.queue),
      state: info.state,
      waiting: info.queue_size,
      in_flight: info.in_flight,
      scheduled: info.scheduled,
      full: Snapshot.full(info),
      done: change && Float.round(change.settled, 1),
      refused: change && Float.round(change.rejected_full, 1),
      wait_p99: ms(change[:wait_us][:p99]),
      handler_p99: ms(change[:handler_us][:p99]),
      workers: snapshot.workers && snapshot.workers.running,
      parked: info.parked,
      dead: info.dead
    }
  end

  defp ms(nil), do: nil
  defp ms(us), do: Float.round(us / 1_000, 2)
end

if Code.ensure_loaded?(Phoenix.LiveDashboard.PageBuilder) do
  defmodule PaymentQueue.LiveDashboard.Page do
    @moduledoc "`PaymentQueue.LiveDashboard` as a page, where LiveDashboard was compiled before PaymentQueue."
    use PaymentQueue.LiveDashboard
  end
end
