"""No spelling of a path gets past the routes: what is accepted is read alike by everybody."""

from __future__ import annotations

import posixpath
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit.client.enforce.paths import canonical_path, plain_path
from remit.client.enforce.routes import RouteTable
from remit.kernel.errors import Misconfigured, Rejected

_PIECES = st.sampled_from(
    ["/", "//", ".", "..", "%2e", "%2E", "%2f", "%5c", "\\", ";", "%3b", "%00", "%25", "%", "a", "admin", "%61", "?",
     "#", " ", "é", "%c3%a9", "%ff", "http://x"]
)  # fmt: skip


@given(st.lists(_PIECES, max_size=8).map("".join))
def test_an_accepted_path_has_one_reading(target: str) -> None:
    try:
        path = canonical_path(target)
    except Rejected:
        return
    assert path.startswith("/") and "//" not in path
    assert posixpath.normpath(path) == (path.rstrip("/") or "/")
    assert unquote(path) == path and unquote(target.partition("?")[0]) == path
    assert plain_path(path) == path


@given(st.lists(_PIECES, max_size=8).map("".join))
def test_no_spelling_of_another_path_reaches_below_a_route(tail: str) -> None:
    table = RouteTable.parse([{"path": "/public/**", "public": True}])
    try:
        path = canonical_path("/public/" + tail)
    except Rejected:
        return
    if table.match("GET", "h", path) is not None:
        assert posixpath.normpath(path).startswith("/public/")


@pytest.mark.parametrize(
    "row",
    [
        {"path": "/a"}, {"path": "/a", "action": "read", "resource": "orders"}, {"path": "a", "public": True},
        {"path": "/{a}/{a}", "public": True}, {"path": "/a*", "public": True}, {"path": "/**/b", "public": True},
        {"path": "/a", "action": "read", "resource": "service/{b}"}, {"path": "/a", "public": True, "methods": ["GET"]},
        {"path": "/a", "public": True, "method": ["get"]}, {"path": "/a", "public": True, "host": "A.example"},
    ],
)  # fmt: skip
def test_a_route_that_says_nothing_clear_is_an_error(row: dict[str, object]) -> None:
    with pytest.raises(Misconfigured):
        RouteTable.parse([row])


def test_the_first_route_that_fits_names_the_request() -> None:
    table = RouteTable.parse(
        [
            {"path": "/o/{id}", "method": ["GET"], "host": "*.example", "action": "read", "resource": "service/o/{id}"},
            {"path": "/o/**", "action": "write", "resource": "service/o"},
        ]
    )
    first, second = table.match("GET", "api.example:443", "/o/7"), table.match("GET", "other.test", "/o/7")
    assert first is not None and (first.action, first.kind, first.name) == ("read", "service", "o/7")
    assert second is not None and second.action == "write"
    assert table.match("GET", "api.example", "/o") is None and table.match("GET", "api.example", "/o/") is None
