defmodule PaymentsApi.UUIDTest do
  use ExUnit.Case, async: true

  alias PaymentsApi.UUID

  test "text and bytes are each other's inverse" do
    for _ <- 1..1_000 do
      id = UUID.random()
      assert UUID.parse(UUID.format(id)) == {:ok, id}
      assert UUID.parse(String.upcase(UUID.format(id))) == {:ok, id}
    end
  end

  test "a random one says that it is of version 4" do
    assert UUID.format(UUID.random()) =~ ~r/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/
  end

  test "anything else is refused" do
    good = UUID.format(UUID.random())

    for bad <- [
          "",
          nil,
          7,
          good <> "0",
          String.slice(good, 1..-1//1),
          String.replace(good, "-", "_"),
          "g" <> String.slice(good, 1..-1//1)
        ] do
      assert UUID.parse(bad) == :error
    end
  end
end
