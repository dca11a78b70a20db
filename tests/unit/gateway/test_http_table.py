"""The file of an HTTP gateway, read strictly, and what it makes of requests."""

from __future__ import annotations

from pathlib import Path

import pytest

from remit.kernel.errors import Misconfigured, RemitError
from remit.surface.gateways.http.desk import Permit, Refusal
from remit.surface.gateways.http.head import parse_request
from remit.surface.gateways.http.plan import outgoing, plan, question
from remit.surface.gateways.http.table import GatewayTable, load

ROUTE = '[[route]]\npath = "/orders/{order}"\naction = "read"\nresource = "service/orders"\n'
TO = 'upstream = "https://orders.example"\n'
INJECT = 'inject = {secret = "k", as = "header", name = "x-api-key"}\n'
PERMIT = Permit(decision="dc_1", subject="spiffe://remit.local/a", secret="s3cret-value")


def table(tmp_path: Path, text: str) -> GatewayTable:
    file = tmp_path / "routes.toml"
    file.write_text(text)
    return load(file)


@pytest.mark.parametrize(
    "text",
    [
        ROUTE + 'upstream = "ftp://a.example"\n',
        ROUTE + 'upstream = "https://user@a.example"\n',
        ROUTE + 'upstream = "https://a.example/path"\n',
        ROUTE + INJECT,
        ROUTE + TO + 'inject = {secret = "k", as = "header", name = "content-length"}\n',
        ROUTE + TO + 'inject = {secret = "k", as = "header", name = "X Y"}\n',
        ROUTE + TO + 'inject = {secret = "k", as = "basic", user = "a:b"}\n',
        ROUTE + TO + 'inject = {secret = "k", as = "cookie", name = "a"}\n',
        '[[route]]\npath = "/p"\npublic = true\n' + TO + INJECT,
        ROUTE + TO + 'strip = ["host"]\n',
        ROUTE + 'surprise = 1\n',
        '[[connect]]\nhost = "A.example"\n',
        'subjects = ["source-address"]\n',
        "[bounds]\nmax_body = 0\n",
    ],
)  # fmt: skip
def test_a_file_that_says_what_it_cannot_mean_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(Misconfigured):
        table(tmp_path, text)


def head(target: str, *fields: str, method: str = "GET", host: str = "api.example") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", f"Host: {host}", *fields, "", ""]).encode()


def sent(tmp_path: Path, more: str, raw: bytes, *, forward: bool = False) -> list[str]:
    made = plan(parse_request(raw), table(tmp_path, ROUTE + TO + more), forward=forward)
    return outgoing(made, PERMIT).decode().split("\r\n")


def test_the_secret_takes_the_place_of_what_the_client_sent(tmp_path: Path) -> None:
    lines = sent(tmp_path, INJECT, head("/orders/1", "X-Api-Key: mine", "X_Api_Key: mine", "Accept-Encoding: gzip"))
    assert [line for line in lines if "key" in line.lower()] == ["x-api-key: s3cret-value"]
    assert "accept-encoding: identity" in lines


def test_a_basic_credential(tmp_path: Path) -> None:
    more = 'inject = {secret = "k", as = "basic", user = "svc"}\n'
    lines = sent(tmp_path, more, head("/orders/1", "Authorization: Bearer mine"))
    assert "authorization: Basic c3ZjOnMzY3JldC12YWx1ZQ==" in lines and "mine" not in "".join(lines)


def test_a_credential_in_the_query_is_warned_of_and_not_mixed_with_the_clients(tmp_path: Path) -> None:
    more = 'inject = {secret = "k", as = "query", name = "key"}\n'
    assert sent(tmp_path, more, head("/orders/1?a=b"))[0] == "GET /orders/1?a=b&key=s3cret-value HTTP/1.1"
    assert "query" in table(tmp_path, ROUTE + TO + more).warnings()[0]
    with pytest.raises(RemitError, match="of its own"):
        sent(tmp_path, more, head("/orders/1?k%65y=mine"))


def test_what_speaks_for_the_gateway_is_not_taken_from_the_client(tmp_path: Path) -> None:
    raw = head("/orders/1", "X-Remit-Subject: admin", "X-Forwarded-For: 1.1.1.1", "Forwarded: for=me", "X-Real-Ip: me")
    lines = sent(tmp_path, "", raw)
    assert "x-remit-subject: spiffe://remit.local/a" in lines
    assert not [line for line in lines if "admin" in line or "me" in line.partition(":")[2] or "1.1.1.1" in line]


def test_the_upstream_is_asked_by_its_own_name(tmp_path: Path) -> None:
    lines = sent(tmp_path, "", head("http://legacy.example/orders/1", host="legacy.example"), forward=True)
    assert lines[:2] == ["GET /orders/1 HTTP/1.1", "host: orders.example"]


@pytest.mark.parametrize(
    ("raw", "forward"),
    [
        (head("http://api.example/orders/1"), False),
        (head("/orders/1"), True),
        (head("https://api.example/orders/1"), True),
        (head("http://other.example/orders/1"), True),
        (head("http://u@api.example/orders/1", host="api.example"), True),
        (head("http://api.example/orders/../1"), True),
        (head("/orders/%2e%2e"), False),
        (head("//orders/1"), False),
        (head("/orders/1?a=\x7fb".replace("\x7f", '"')), False),
        (head("*", method="OPTIONS"), False),
    ],
)
def test_a_target_that_is_not_for_this_side_is_refused(tmp_path: Path, raw: bytes, forward: bool) -> None:
    with pytest.raises((RemitError, Refusal)):
        plan(parse_request(raw), table(tmp_path, ROUTE + TO), forward=forward)


@pytest.mark.parametrize(
    ("fields", "method", "status"),
    [
        (("Connection: Upgrade", "Upgrade: websocket"), "GET", 403),
        (("Expect: something",), "GET", 417),
        ((), "TRACE", 405),
    ],
)
def test_what_no_route_permits_is_refused(tmp_path: Path, fields: tuple[str, ...], method: str, status: int) -> None:
    with pytest.raises(Refusal) as refused:
        plan(parse_request(head("/orders/1", *fields, method=method)), table(tmp_path, ROUTE + TO), forward=False)
    assert refused.value.status == status


def test_a_token_is_taken_only_where_the_route_takes_one(tmp_path: Path) -> None:
    process = {"process": {"pid": 1, "start_ticks": 2}}
    raw = parse_request(head("/orders/1", "Authorization: Bearer t"))
    subjects = frozenset({"process", "token"})
    without = plan(raw, table(tmp_path, ROUTE + TO), forward=False)
    with_one = plan(raw, table(tmp_path, ROUTE + TO + 'audience = "https://a.example"\n'), forward=False)
    assert "authorization" not in question(without, subjects, process)
    asked = question(with_one, subjects, process)
    assert asked["authorization"] == ["Bearer t"] and "process" not in asked
    assert b"Bearer t" not in outgoing(with_one, PERMIT)


def test_a_table_says_how_it_was_understood(tmp_path: Path) -> None:
    found = table(tmp_path, ROUTE + TO + INJECT + '[[connect]]\nhost = "*.example"\n')
    assert [(row["method"], row["injects"]) for row in found.describe()] == [
        ("any", "k as header x-api-key"),
        ("CONNECT", ""),
    ]
    assert found.tunnel("a.example", 443) is not None and found.tunnel("example", 443) is None
