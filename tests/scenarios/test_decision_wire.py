"""HTTP as its standards have it, at every listener that decides: what one of them refuses, all of them refuse."""

from __future__ import annotations

import http.client
import json
import re
import ssl
from collections.abc import Iterator
from contextlib import closing

import pytest
from test_decision_listener import LISTENERS, OF_ALICE, Reply, Stage, send, stage

from authzen_scenario import EVALUATION, EVALUATIONS, SUBJECTS
from remit.surface.api import authzen

RAW = json.dumps(OF_ALICE).encode()
HEAD = b"POST /access/v1/evaluation HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
Line = http.client.HTTPConnection


@pytest.fixture(scope="module")
def running() -> Iterator[Stage]:
    with stage("127.0.0.1:0", gateway=True) as made:
        yield made


@pytest.fixture(params=sorted(LISTENERS))
def line(running: Stage, request: pytest.FixtureRequest) -> Iterator[Line]:
    with closing(LISTENERS[request.param](running)) as made:
        yield made


def raw(line: Line, data: bytes, *, answers: int = 1, method: str = "POST") -> list[Reply]:
    """Send bytes as they are, and read answers."""
    line.connect()
    line.sock.sendall(data)
    return [read(line, method) for _ in range(answers)]


def read(line: Line, method: str = "POST") -> Reply:
    with closing(http.client.HTTPResponse(line.sock, method=method)) as found:
        found.begin()
        return Reply(found.status, {name.lower(): value for name, value in found.getheaders()}, found.read())


# Methods.


@pytest.mark.parametrize("path", [EVALUATION, EVALUATIONS, SUBJECTS])
def test_an_endpoint_takes_post_alone_and_says_so(line: Line, path: str) -> None:
    for method in ("GET", "HEAD", "OPTIONS", "PUT", "DELETE"):
        reply = send(line, b"", path, method)
        assert (reply.status, set(reply.headers.get("allow", "").split(", ")) & {"POST", "GET"}) == (405, {"POST"})
    assert send(line, OF_ALICE).body["decision"] is True


def test_discovery_is_read_and_its_endpoints_are_served(line: Line) -> None:
    for method in ("POST", "DELETE"):
        assert send(line, b"", authzen.METADATA_PATH, method).status == 405
    assert send(line, b"", authzen.METADATA_PATH, "HEAD").raw == b""
    found = send(line, b"", authzen.METADATA_PATH, "GET").body
    base = found["policy_decision_point"]
    endpoints = [url.removeprefix(base) for name, url in found.items() if name.endswith("_endpoint")]
    # Each is served: what is no request is refused as such, and not for want of a path.
    assert [send(line, b"{}", path).status for path in endpoints] == [400] * 5


# I-JSON.


@pytest.mark.parametrize(
    "body",
    [
        RAW.replace(b'"read"', b'"read", "name": "write"'),
        RAW.replace(b'{"name"', b'{"na\\u006de": "write", "name"'),
        RAW[:-1] + b', "context": {"a": {"b": 1, "b": 2}}}',
        RAW[:-1] + b', "context": {"a": "\\ud800"}}',
        RAW[:-1] + b', "context": {"\\udc00": 1}}',
        RAW[:-1] + b', "context": {"a": NaN}}',
        b"\xef\xbb\xbf\xff" + RAW,
        RAW.replace(b"read", b"re\xffad"),
        RAW + b"{}",
        b'{"subject":' * 5000,
    ],
)
def test_what_two_parsers_could_read_differently_is_400(line: Line, body: bytes) -> None:
    reply = send(line, body, **{"X-Request-ID": "r-7"})
    assert (reply.status, reply.headers["x-request-id"]) == (400, "r-7")
    assert "Traceback" not in reply.raw.decode() and len(reply.raw) < 2000


@pytest.mark.parametrize("kind", ["", "text/plain", "application/jsonp", "application/x-www-form-urlencoded"])
def test_another_type_is_400(line: Line, kind: str) -> None:
    assert send(line, OF_ALICE, **{"Content-Type": kind}).status == 400


# Framing.


def test_a_body_may_come_in_chunks(line: Line) -> None:
    pieces = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (RAW[:1], RAW[1:50], RAW[50:]))
    (reply,) = raw(line, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n")
    assert reply.body["decision"] is True


def test_who_waits_for_a_word_gets_it(line: Line) -> None:
    line.connect()
    line.sock.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(RAW))
    said = b""
    while b"\r\n\r\n" not in said:
        said += line.sock.recv(1)
    line.sock.sendall(RAW)
    assert (said[:12], read(line).body["decision"]) == (b"HTTP/1.1 100", True)


def test_pipelined_requests_are_answered_in_their_order(line: Line) -> None:
    one = HEAD + b"X-Request-ID: %d\r\n%bContent-Length: %d\r\n\r\n" + RAW
    ends = [b""] * 7 + [b"Connection: close\r\n"]
    line.connect()
    line.sock.sendall(b"".join(one % (number, end, len(RAW)) for number, end in enumerate(ends)))
    found = b""
    while chunk := line.sock.recv(65536):
        found += chunk
    told = re.findall(rb"(?i)x-request-id: (\d)", found)
    assert (found.count(b"HTTP/1.1 200"), told) == (8, [b"%d" % number for number in range(8)])


def test_a_connection_is_kept_until_its_peer_says_otherwise(line: Line) -> None:
    assert [send(line, OF_ALICE).status for _ in range(3)] == [200] * 3
    reply = send(line, OF_ALICE, Connection="close")
    assert (reply.status, reply.headers.get("connection", "").lower()) == (200, "close")


@pytest.mark.parametrize(
    "more",
    [
        b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"Content-Length: 3\r\nContent-Length: 4\r\n\r\n",
        b"Content-Length: +3\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"Bad Name: x\r\n\r\n",
        b"X-Request-ID: a\rb\r\n\r\n",
        b"X-Request-ID: a\0b\r\n\r\n",
    ],
)
def test_framing_of_two_readings_is_refused_and_hung_up_on(line: Line, more: bytes) -> None:
    (reply,) = raw(line, HEAD + more)
    assert reply.status == 400
    try:
        assert line.sock.recv(10) == b""
    except (ConnectionError, ssl.SSLError):
        pass


# Sizes.


def test_a_body_of_more_than_a_megabyte_is_413(line: Line) -> None:
    line.connect()
    try:
        line.sock.sendall(HEAD + b"Content-Length: 2000000\r\n\r\n" + b" " * 2_000_000)
    except OSError:
        pass
    assert read(line).status == 413


def test_a_head_without_measure_is_refused(line: Line) -> None:
    line.connect()
    try:
        line.sock.sendall(HEAD + b"X-Long: " + b"x" * 300_000 + b"\r\n\r\n")
        status = read(line).status
    except (OSError, http.client.HTTPException):
        status = 0
    assert status in (0, 400, 431)


def test_a_megabyte_of_context_is_told_to_be_too_much(line: Line) -> None:
    body = json.dumps({**OF_ALICE, "context": {"purpose": "x" * 900_000}}).encode()
    reply = send(line, body)
    assert (reply.status, reply.body["code"]) == (413, "access.authzen.too-large")
