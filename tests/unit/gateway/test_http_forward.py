"""Where a gateway connects to: public addresses, resolved once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from remit.kernel.errors import Denied, Unavailable
from remit.providers.http_forward import connect, is_public, resolve


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
     "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "ff02::1", "::ffff:169.254.169.254",
     "::ffff:10.0.0.1", "::10.0.0.1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2001:0:0:0:0:0:8080:8080", "not-one"],
)  # fmt: skip
def test_a_private_address_is_none_of_the_internet(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.215.14", "2606:4700:4700::1111", "::ffff:1.1.1.1"])
def test_a_public_address_is_one(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f.1", "0177.0.0.1"])
def test_a_number_in_another_spelling_is_looked_at_as_what_it_is(host: str) -> None:
    with pytest.raises(Denied, match="private address 127"):
        asyncio.run(connect(host, 9, tls=None, private=False))


def test_one_private_address_among_public_ones_is_enough() -> None:
    async def mixed(host: str, port: int) -> Sequence[str]:
        return ["1.1.1.1", "10.0.0.1"]

    with pytest.raises(Denied, match=r"private address 10\.0\.0\.1"):
        asyncio.run(connect("rebind.example", 80, tls=None, private=False, resolver=mixed))


def test_a_name_is_resolved_once_and_that_address_is_connected() -> None:
    async def run() -> tuple[int, str]:
        asked: list[str] = []

        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"hello")
            writer.close()

        server = await asyncio.start_server(greet, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]

        async def rebinding(host: str, port: int) -> Sequence[str]:
            asked.append(host)
            return ["127.0.0.1"] if len(asked) == 1 else ["169.254.169.254"]

        reader, writer = await connect("turns.example", port, tls=None, private=True, resolver=rebinding)
        said = await reader.read()
        writer.close()
        server.close()
        return len(asked), said.decode()

    assert asyncio.run(run()) == (1, "hello")


def test_a_name_without_an_address_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        asyncio.run(resolve("no-such-name.invalid", 80))
