"""Both encodings, side by side on one hub: values of every kind, streams both ways, broadcasts, names and own types."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import pytest

from hubproto_core import ZERO_OFFSET, Call, Char, Codec, Hub, HubError, JsonCodec, LocalProtocolError, MessagePackCodec
from tests.kit.runtimes import Connection, Runtime

PROTOCOLS = pytest.mark.parametrize("protocol", ["json", "messagepack"])


class Color(Enum):
    RED = 0
    BLUE = 6


@dataclass
class Order:
    """What a service might be sent."""

    order_id: UUID
    price: Decimal
    placed_at: datetime
    deliver_on: date
    opens_at: time
    patience: timedelta
    color: Color
    grade: Char
    photo: bytes
    stock_by_shop: dict[int, int]
    note: str | None = None


ORDER = Order(
    order_id=UUID("0f8fad5b-d9cb-469f-a165-70867728950e"),
    price=Decimal("79.9900"),
    placed_at=datetime(2024, 2, 29, 12, 34, 56, 789000, timezone(timedelta(hours=5, minutes=30))),
    deliver_on=date(2024, 2, 29),
    opens_at=time(8, 30),
    patience=timedelta(days=1, seconds=1, microseconds=5),
    color=Color.BLUE,
    grade=Char("\u0436"),
    photo=b"\x00\xff",
    stock_by_shop={7: 2**63},
)


class Money:
    """A type that msgspec does not know."""

    def __init__(self, cents: int) -> None:
        self.cents = cents


def write_money(value: Any) -> Any:
    if isinstance(value, Money):
        return f"{value.cents} ct"
    raise TypeError(f"what is a {type(value).__name__}?")


def read_money(type_: type, value: Any) -> Any:
    assert type_ is Money
    return Money(int(value.removesuffix(" ct")))


def make_hub(*codecs: Codec) -> Hub:
    hub = Hub(codecs=codecs or None)

    @hub.method("Echo")
    def echo(value: Any) -> Any:
        return value

    @hub.method("Reorder")
    def reorder(order: Order) -> Order:
        return order

    @hub.method("Orders")
    async def orders(count: int) -> AsyncIterator[Order]:
        for _ in range(count):
            yield ORDER

    @hub.method("CountOrders")
    async def count_orders(orders: AsyncIterator[Order]) -> int:
        return len([order async for order in orders if order == ORDER])

    @hub.method("Tell")
    def tell(order: Order, call: Call) -> None:
        call.clients.all.send("told", order)

    def double(money: Money) -> Money:
        return Money(2 * money.cents)

    if codecs:  # others do not know what Money is
        hub.method("Double")(double)

    return hub


@PROTOCOLS
@pytest.mark.parametrize(
    "value",
    ["", "text with \U0001f600 and \x1e", 2**64 - 1, -(2**63), -1.5, True, None, [1, ["a", None]], {"a": {"b": []}}],
    ids=repr,
)
async def test_a_value_comes_back_as_it_was(rt: Runtime, protocol: str, value: Any) -> None:
    async with rt.serve(make_hub()) as server, rt.connect(server.url, protocol=protocol) as client:
        assert await client.invoke("Echo", value) == value


@PROTOCOLS
async def test_declared_types_travel(rt: Runtime, protocol: str) -> None:
    async with rt.serve(make_hub()) as server, rt.connect(server.url, protocol=protocol) as client:
        assert await client.invoke("Reorder", ORDER, returns=Order) == ORDER
        async with client.stream("Orders", 20, returns=Order) as orders:
            assert [order async for order in orders] == [ORDER] * 20
        assert await client.invoke("CountOrders", client.upload([ORDER] * 20)) == 20


@PROTOCOLS
async def test_names_on_the_wire(rt: Runtime, protocol: str) -> None:
    """As .NET has them: camelCase in JSON, as they are declared in MessagePack."""
    async with rt.serve(make_hub()) as server, rt.connect(server.url, protocol=protocol) as client:
        plain = await client.invoke("Reorder", ORDER)
        assert ("placedAt" if protocol == "json" else "placed_at") in plain
        assert plain["color"] == (6 if protocol == "json" else "BLUE")
        assert plain["grade"] == ("\u0436" if protocol == "json" else 0x436)


@PROTOCOLS
async def test_what_does_not_fit_is_refused_and_the_connection_lives_on(rt: Runtime, protocol: str) -> None:
    async with rt.serve(make_hub()) as server, rt.connect(server.url, protocol=protocol) as client:
        for wrong in ("text", 5, {}, {"orderId": 1}):
            with pytest.raises(HubError, match=r"^Failed to invoke 'Reorder' due to an error on the server\.$"):
                await client.invoke("Reorder", wrong)
        for unspeakable in (object(), [{"a": object}], {1j: 1}):
            with pytest.raises(LocalProtocolError, match="Invocation cannot be written as"):
                await client.invoke("Echo", unspeakable)
        with pytest.raises(HubError, match="Error trying to deserialize result to Order"):
            await client.invoke("Echo", "text", returns=Order)
        assert await client.invoke("Echo", 1) == 1


async def test_a_broadcast_reaches_clients_of_both_encodings(rt: Runtime) -> None:
    told: dict[str, list[Order]] = {"json": [], "messagepack": []}

    def listen(client: Connection, protocol: str) -> None:
        def note(order: Order) -> None:
            told[protocol].append(order)

        client.on("told", note)

    async with rt.serve(make_hub()) as server:
        async with (
            rt.connect(server.url, protocol="json") as text,
            rt.connect(server.url, protocol="messagepack") as binary,
        ):
            listen(text, "json")
            listen(binary, "messagepack")
            await binary.invoke("Tell", ORDER)
            await text.invoke("Tell", ORDER)
            await rt.eventually(lambda: told == {"json": [ORDER] * 2, "messagepack": [ORDER] * 2})


async def test_messagepack_tells_a_time_of_offset_zero_from_one_in_utc(rt: Runtime) -> None:
    clock = datetime(2024, 2, 29, 12, 34, 56)  # noqa: DTZ001
    async with rt.serve(make_hub()) as server, rt.connect(server.url, protocol="messagepack") as client:
        in_utc = clock.replace(tzinfo=UTC)
        assert await client.invoke("Echo", in_utc) == in_utc
        assert await client.invoke("Echo", clock) == in_utc
        assert await client.invoke("Echo", clock.replace(tzinfo=ZERO_OFFSET)) == [in_utc, 0]


@pytest.mark.parametrize("codec", [JsonCodec, MessagePackCodec], ids=["json", "messagepack"])
async def test_own_names_and_own_types(rt: Runtime, codec: Any) -> None:
    settings = {"rename": "pascal", "enc_hook": write_money, "dec_hook": read_money}
    async with rt.serve(make_hub(codec(**settings))) as server:
        async with rt.connect(server.url, protocol=codec(**settings)) as client:
            assert "PlacedAt" in await client.invoke("Reorder", ORDER)
            assert await client.invoke("Reorder", ORDER, returns=Order) == ORDER
            assert (await client.invoke("Double", Money(5), returns=Money)).cents == 10
            assert await client.invoke("Double", "6 ct") == "12 ct"
            with pytest.raises(HubError, match="Failed to invoke 'Double'"):
                await client.invoke("Double", "six")


async def test_a_hub_speaks_only_the_encodings_that_it_has(rt: Runtime) -> None:
    async with rt.serve(make_hub(JsonCodec())) as server:
        with pytest.raises(HubError, match="The protocol 'messagepack' is not supported"):
            async with rt.connect(server.url, protocol="messagepack"):
                pass


async def test_an_unknown_encoding_is_refused_at_once(rt: Runtime) -> None:
    with pytest.raises(ValueError, match="protocol must be 'json', 'messagepack' or a Codec, not 'xml'"):
        rt.connect("http://127.0.0.1:1/hub", protocol="xml")
