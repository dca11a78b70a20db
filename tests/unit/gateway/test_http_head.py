"""Heads and bodies of HTTP/1.1 at the gateway: one reading, or none."""

from __future__ import annotations

import asyncio

import pytest

from remit.kernel.errors import RemitError
from remit.surface.gateways.http.body import read_body
from remit.surface.gateways.http.head import CHUNKED, UNTIL_CLOSE, end_to_end, parse_request, parse_response

GET = b"GET /a HTTP/1.1\r\nHost: a.example\r\n"


def test_a_plain_request_is_read() -> None:
    found = parse_request(GET + b"X-One: 1\r\nx-one:  2 \r\n\r\n")
    assert (found.method, found.target, found.host, found.length) == ("GET", "/a", "a.example", 0)
    assert found.values("x-one") == ("1", "2")


@pytest.mark.parametrize(
    "raw",
    [
        GET + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        GET + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        GET + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        GET + b"Transfer-Encoding: xchunked\r\n\r\n",
        GET + b"Transfer-Encoding:\x0bchunked\r\n\r\n",
        GET + b"Transfer-Encoding : chunked\r\n\r\n",
        GET + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n",
        GET + b"Content-Length: +5\r\n\r\n",
        GET + b"Content-Length: 5, 5\r\n\r\n",
        GET + b"Content-Length: 0x5\r\n\r\n",
        GET + b"X: a\r\n folded: b\r\n\r\n",
        GET + b"X: a\nY: b\r\n\r\n",
        GET + b"X: a\rY: b\r\n\r\n",
        GET + b"X: a\0b\r\n\r\n",
        GET + b": nothing\r\n\r\n",
        GET + b"Host: b.example\r\n\r\n",
        b"GET /a HTTP/1.1\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: user@a.example\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: a.example/b\r\n\r\n",
        b"GET /a HTTP/2.0\r\nHost: a\r\n\r\n",
        b"GET  /a HTTP/1.1\r\nHost: a\r\n\r\n",
        b"get /a HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /a\r\nHost: a\r\n\r\n",
        b"\r\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /a HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        GET + b"X: y\r\n" * 200 + b"\r\n",
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(raw: bytes) -> None:
    with pytest.raises(RemitError, match="refused"):
        parse_request(raw)


def test_a_tunnel_is_asked_for_without_a_host_by_old_clients() -> None:
    assert parse_request(b"CONNECT a.example:443 HTTP/1.0\r\n\r\n").host == "a.example:443"


def test_what_concerns_one_connection_does_not_go_on() -> None:
    fields = [("connection", "close, X-Mine"), ("x-mine", "1"), ("te", "trailers"), ("upgrade", "h2c"), ("accept", "*")]
    assert end_to_end(fields) == [("accept", "*")]


@pytest.mark.parametrize("name", ["authorization", "Host", "content-length", "cookie"])
def test_connection_takes_nothing_from_under_the_upstream(name: str) -> None:
    with pytest.raises(RemitError, match="Connection"):
        end_to_end([("connection", f"close, {name}"), (name.lower(), "x")])


def test_a_name_with_an_underscore_is_no_way_around() -> None:
    assert end_to_end([("x_api_key", "mine"), ("x-other", "1")], ["x-api-key"]) == [("x-other", "1")]


@pytest.mark.parametrize(
    ("head", "method", "length"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", "GET", 4),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", "HEAD", 0),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n", "GET", 0),
        (b"HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n", "GET", CHUNKED),
        (b"HTTP/1.1 200 OK\r\n\r\n", "GET", UNTIL_CLOSE),
    ],
)
def test_the_length_of_an_answer(head: bytes, method: str, length: int) -> None:
    assert parse_response(head).length(method) == length


def read(raw: bytes, length: int, most: int = 1 << 20) -> bytes:
    async def run() -> bytes:
        reader = asyncio.StreamReader(limit=65536)
        reader.feed_data(raw)
        reader.feed_eof()
        return b"".join([chunk async for chunk in read_body(reader, length, most=most, idle=5)])

    return asyncio.run(run())


def test_a_chunked_body_is_read_without_its_trailer() -> None:
    assert read(b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-T: 1\r\n\r\n", CHUNKED) == b"abcde"


@pytest.mark.parametrize(
    "raw",
    [b"3\r\nabcd\r\n0\r\n\r\n", b"-1\r\n", b"0x3\r\nabc\r\n0\r\n\r\n", b"3\nabc\r\n0\r\n\r\n", b"3\r\nab", b"ffffffffffffff\r\n",
     b"3 \r\nabc\r\n0\r\n\r\n"],
)  # fmt: skip
def test_a_chunk_that_lies_is_refused(raw: bytes) -> None:
    with pytest.raises(RemitError):
        read(raw, CHUNKED)


@pytest.mark.parametrize(("raw", "length"), [(b"x" * 11, 11), (b"b\r\n" + b"x" * 11 + b"\r\n0\r\n\r\n", CHUNKED), (b"x" * 11, UNTIL_CLOSE)])  # fmt: skip
def test_a_body_over_the_bound_is_refused(raw: bytes, length: int) -> None:
    with pytest.raises(RemitError, match="larger than 10"):
        read(raw, length, most=10)


def test_a_body_that_is_cut_off_is_no_body() -> None:
    with pytest.raises(RemitError, match="cut off"):
        read(b"abc", 4)
