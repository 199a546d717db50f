defmodule PaymentsApi.Demo.LogFile do
  @moduledoc """
  Sends the log to a file for the length of the demo: hundreds of killed workers and refused charges are logged, as they
  should be, and would bury the table.
  """

  @spec open() :: Path.t()
  def open do
    path = Application.app_dir(:payments_api, "demo.log")
    File.rm(path)
    for id <- :logger.get_handler_ids(), do: :logger.set_handler_config(id, :level, :none)

    config = %{
      config: %{file: String.to_charlist(path), max_no_bytes: 10_000_000, max_no_files: 1},
      formatter: {:logger_formatter, %{single_line: true}}
    }

    :ok = :logger.add_handler(:payments_api_demo, :logger_std_h, config)
    Path.relative_to_cwd(path)
  end
end
