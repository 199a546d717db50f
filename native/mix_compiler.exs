defmodule Mix.Tasks.Compile.PaymentQueueNif do
  @moduledoc false
  # Builds native/payment_queue_nif with cargo and puts the library into the build's priv directory; with
  # `config :payment_queue, engines: [:nats]` also native/payment_queue_nats_nif, which pulls in a runtime and TLS.
  #
  # mix.exs loads this file. Under lib/mix/tasks it would not be compiled yet when a clean tree asks for it.

  use Mix.Task.Compiler

  alias Mix.Task.Compiler.Diagnostic

  @crate "payment_queue_nif"
  @engines %{nats: "payment_queue_nats_nif"}
  @root Path.expand("..", __DIR__)

  @impl true
  def run(_args) do
    with {:ok, cargo} <- find_cargo(), do: build_all(cargo, crates(), {:noop, []})
  end

  defp build_all(_cargo, [], done), do: done

  defp build_all(cargo, [crate | rest], {status, warnings}) do
    with {:ok, artifact, more} <- build(cargo, crate) do
      installed = install(crate, artifact)
      build_all(cargo, rest, {if(installed == :ok, do: :ok, else: status), warnings ++ more})
    end
  end

  defp crates do
    engines = Application.get_env(:payment_queue, :engines, [])

    case engines -- Map.keys(@engines) do
      [] -> [@crate | Enum.map(engines, &Map.fetch!(@engines, &1))]
      unknown -> Mix.raise("config :payment_queue, engines: #{inspect(unknown)} is unknown; known: [:nats]")
    end
  end

  @impl true
  def clean do
    File.rm_rf!(target_dir())
    priv_dir() |> Path.join("payment_queue_*nif.*") |> Path.wildcard() |> Enum.each(&File.rm!/1)
  end

  defp find_cargo do
    case System.find_executable("cargo") do
      nil -> fail("PaymentQueue needs Rust #{rust_version()} or newer, but no cargo is on the PATH: install Rust.")
      cargo -> {:ok, cargo}
    end
  end

  # Cargo alone knows whether anything is stale, and a build with nothing to do takes 0.03 s: so it is asked every time.
  defp build(cargo, crate) do
    if not File.exists?(target_dir()), do: Mix.shell().info("Compiling #{crate} with cargo")

    args = ~w(build --release --quiet --package #{crate} --message-format json-render-diagnostics --target-dir)
    {output, status} = System.cmd(cargo, args ++ [target_dir()], cd: @root, stderr_to_stdout: true)
    {messages, text} = output |> String.split("\n") |> Enum.split_with(&String.starts_with?(&1, ~s({"reason":)))
    text = text |> Enum.join("\n") |> String.trim()

    if status == 0 do
      if text != "", do: Mix.shell().info(text)
      {:ok, artifact!(messages, crate), diagnostics(text)}
    else
      explain(cargo, text)
    end
  end

  # Cargo names the file in its JSON, so a configured target triple or a platform's own suffix needs no rule here.
  defp artifact!(messages, crate) do
    message = Enum.find(messages, &(&1 =~ ~s("crate_types":["cdylib"]) and &1 =~ ~s("name":"#{crate}")))
    [_, path] = Regex.run(~r/"filenames":\["((?:[^"\\]|\\.)+)"/, message)
    Macro.unescape_string(path)
  end

  # Looked at only now: what an old cargo says about a newer Cargo.toml seldom names the cause, and asking costs a process.
  defp explain(cargo, text) do
    with {output, 0} <- System.cmd(cargo, ["--version"], stderr_to_stdout: true),
         [_, version] <- Regex.run(~r/^cargo (\d+\.\d+\.\d+)/m, output),
         :lt <- Version.compare(version, rust_version() <> ".0") do
      fail("PaymentQueue needs Rust #{rust_version()} or newer, but #{cargo} is version #{version}: update Rust.")
    else
      _ -> fail(text)
    end
  end

  defp fail(text) do
    Mix.shell().error(text)
    errors = Enum.filter(diagnostics(text), &(&1.severity == :error))
    {:error, if(errors == [], do: [diagnostic("Cargo.toml", 0, :error, text)], else: errors)}
  end

  defp diagnostics(text) do
    reported = ~r/^(warning|error)[^:\n]*: (.+)\n +--> (.+):(\d+):\d+$/m

    for [_, severity, message, file, line] <- Regex.scan(reported, text) do
      diagnostic(file, String.to_integer(line), String.to_existing_atom(severity), message)
    end
  end

  defp diagnostic(file, line, severity, message) do
    %Diagnostic{
      file: Path.join(@root, file),
      position: line,
      severity: severity,
      message: message,
      compiler_name: @crate
    }
  end

  # A running VM may have the installed file mapped: it is left alone while the bytes are the same, and replaced by a
  # rename, never written into.
  defp install(crate, artifact) do
    # The VM looks for .so on macOS too.
    suffix = artifact |> Path.extname() |> String.replace(".dylib", ".so")
    library = Path.join(priv_dir(), crate <> suffix)
    bytes = File.read!(artifact)

    if File.read(library) == {:ok, bytes} do
      :noop
    else
      temporary = "#{library}.#{System.pid()}"
      File.mkdir_p!(priv_dir())
      File.write!(temporary, bytes)
      File.rename!(temporary, library)
      :ok
    end
  end

  defp priv_dir, do: Path.join(Mix.Project.app_path(), "priv")

  # Beside the builds of the environments, which share it; inside the build where its path was given, for then the parent
  # directory is not ours.
  defp target_dir do
    build = Mix.Project.build_path()
    parent = if System.get_env("MIX_BUILD_PATH"), do: build, else: Path.dirname(build)
    Path.join(parent, @crate)
  end

  defp rust_version do
    [_, version] = Regex.run(~r/^rust-version = "(\d+\.\d+)/m, File.read!(Path.join(@root, "Cargo.toml")))
    version
  end
end
