defmodule PaymentQueue.Plug.Path do
  @moduledoc false
  # The `path:` option that the plugs have in common: relative to where the plug stands in its pipeline, so that it also
  # works behind a `forward`.

  @doc "The option's type, with its default."
  @spec option(String.t()) :: {{:custom, fun()}, String.t()}
  def option(default), do: {{:custom, &__MODULE__.check/1}, default}

  @doc false
  @spec check(term()) :: {:ok, [String.t()]} | {:error, String.t()}
  def check("/" <> _ = path), do: {:ok, String.split(path, "/", trim: true)}
  # Checked before, when the options went through `init/1` twice.
  def check(segments) when is_list(segments), do: {:ok, segments}
  def check(_other), do: {:error, ~s(a path that begins with "/")}

  @doc "What of the request's path comes after `path`, or nil if it is not below it."
  @spec below([String.t()], [String.t()]) :: [String.t()] | nil
  def below(rest, []), do: rest
  def below([segment | rest], [segment | path]), do: below(rest, path)
  def below(_request, _path), do: nil
end
