defmodule PaymentQueue.JSONTest do
  use ExUnit.Case, async: true

  alias PaymentQueue.JSON

  defp encode(value), do: value |> JSON.encode!() |> IO.iodata_to_binary()

  test "keeps the order of keyword lists, and sorts maps" do
    assert encode(status: "ok", queue: [queue_size: 2, in_flight: 1]) ==
             ~s({"status":"ok","queue":{"queue_size":2,"in_flight":1}})

    assert encode(%{b: 1, a: %{}}) == ~s({"a":{},"b":1})
  end

  test "knows all kinds of values" do
    assert encode([nil, true, false, -7, 1.5, :running, "a", [], [[1]]]) ==
             ~s([null,true,false,-7,1.5,"running","a",[],[[1]]])
  end

  test "escapes text, and shows what is no text" do
    assert encode("a \"quote\", a \\ and a\nline") == ~S("a \"quote\", a \\ and a\nline")
    assert encode("é") in [~s("é"), ~S("\u00E9"), ~S("\u00e9")]
    assert encode(<<255, 1>>) == ~s("<<255, 1>>")
  end

  test "uses a library that is there" do
    assert Code.ensure_loaded?(JSON.library!())
  end
end
