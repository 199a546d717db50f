defmodule PlugApp.Client do
  @moduledoc false
  # One HTTP request, one connection. OTP's own client cannot be used: it obeys `retry-after` behind the caller's back, and
  # a refusal would never be seen.

  @type response :: %{status: pos_integer(), headers: %{String.t() => String.t()}, body: binary()}

  @spec request(String.t(), String.t(), iodata(), [{String.t(), String.t()}]) :: response()
  def request(method, path, body \\ "", headers \\ []) do
    {:ok, socket} = :gen_tcp.connect({127, 0, 0, 1}, PlugApp.port(), [:binary, active: false, packet: :http_bin])

    headers =
      [{"host", "localhost"}, {"connection", "close"}, {"content-type", "application/json"}] ++
        [{"content-length", "#{IO.iodata_length(body)}"} | headers]

    :ok =
      :gen_tcp.send(socket, [
        "#{method} #{path} HTTP/1.1\r\n",
        for({name, value} <- headers, do: [name, ": ", value, "\r\n"]),
        "\r\n",
        body
      ])

    {:ok, {:http_response, _, status, _}} = :gen_tcp.recv(socket, 0, 30_000)
    headers = headers(socket, %{})
    :ok = :inet.setopts(socket, packet: :raw)
    %{status: status, headers: headers, body: body(socket, "")}
  end

  defp headers(socket, headers) do
    case :gen_tcp.recv(socket, 0) do
      {:ok, {:http_header, _, name, _, value}} ->
        headers(socket, Map.put(headers, String.downcase(to_string(name)), value))

      {:ok, :http_eoh} ->
        headers
    end
  end

  defp body(socket, body) do
    case :gen_tcp.recv(socket, 0) do
      {:ok, more} -> body(socket, body <> more)
      {:error, :closed} -> body
    end
  end
end
