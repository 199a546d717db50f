defmodule PaymentQueue.FaultyBuild do
  @moduledoc false
  # The library as it is, but with a native part that panics on demand (the feature `fault-injection` of the Rust crates) and
  # takes any bytes for its compact format: for VMs of their own, see `PaymentQueue.ChildVm.run/3`.

  import ExUnit.Assertions

  @root Path.expand("../..", __DIR__)

  @doc "Builds it, once in a run, and returns the directory of its modules."
  @spec ebin() :: Path.t()
  def ebin do
    # Two test modules may ask at a time. Whoever asks later must not take it away from the VMs of whoever was first.
    :global.trans({__MODULE__, self()}, &built/0, [node()])
  end

  defp built do
    with nil <- :persistent_term.get(__MODULE__, nil) do
      ebin = build()
      :persistent_term.put(__MODULE__, ebin)
      ebin
    end
  end

  defp build do
    target = Path.join(Path.dirname(Mix.Project.build_path()), "payment_queue_faults")
    arguments = ~w(build --quiet --package payment_queue_nif --features fault-injection --target-dir #{target})
    {output, status} = System.cmd("cargo", arguments, cd: @root, stderr_to_stdout: true)
    assert status == 0, output
    # Erlang finds `priv` beside `ebin`, in a directory with the application's name.
    application = Path.join(target, "payment_queue")
    File.rm_rf!(application)
    File.mkdir_p!(Path.join(application, "priv"))
    File.cp_r!(Application.app_dir(:payment_queue, "ebin"), Path.join(application, "ebin"))
    [library] = Path.wildcard(Path.join(target, "debug/libpayment_queue_nif.{so,dylib}"))
    File.cp!(library, Path.join(application, "priv/payment_queue_nif.so"))
    Path.join(application, "ebin")
  end
end
