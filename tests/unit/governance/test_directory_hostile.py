"""A directory that lies: whom it hides by showing another twice, and what stands in names."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from remit.kernel.errors import Unavailable
from remit.providers.directory.file import read_file
from remit.providers.directory.records import Shown, address_of
from remit.providers.directory.scim import read_scim

ANN = {"id": "1", "displayName": "Ann", "emails": [{"value": "ann@example.org", "primary": True}]}
BEN = {"id": "2", "displayName": "Ben", "userName": "ben@example.org"}


@contextmanager
def answering(users: list[Any], groups: list[Any]) -> Iterator[str]:
    """A SCIM server that shows these, whatever they are."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            rows = groups if self.path.startswith("/Groups") else users
            body = json.dumps({"totalResults": len(rows), "Resources": rows}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def shown(users: list[Any], groups: list[Any] | None = None) -> Shown:
    with answering(users, groups or []) as address:
        return asyncio.run(read_scim(address, "token"))


@pytest.mark.parametrize("second", [{**BEN, "id": "1"}, {**BEN, "id": ""}, {"userName": "ben@example.org"}, "ben"])
def test_a_reading_in_which_one_hides_another_is_none(second: Any) -> None:
    with pytest.raises(Unavailable) as caught:
        shown([ANN, second])
    assert caught.value.code == "providers.directory.partial"


@pytest.mark.parametrize("active", [False, "false", "False"])
def test_who_is_inactive_in_any_spelling_is_not_there(active: Any) -> None:
    assert [each.email for each in shown([ANN, {**BEN, "active": active}]).people] == ["ann@example.org"]


@pytest.mark.parametrize("junk", [7, "x", [1], {"a": 1}, None])
def test_fields_of_a_strange_shape_harm_nobody_else(junk: Any) -> None:
    enterprise = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
    odd = {**BEN, "emails": junk, enterprise: junk, "displayName": junk}
    found = shown([ANN, odd], [{"id": "g", "displayName": junk, "members": junk}])
    assert {each.email for each in found.people} == {"ann@example.org", "ben@example.org"}


@pytest.mark.parametrize(
    "said", ["ann@x.org\x1b[2J", "ann@x.org\nben@x.org", "Ann <ann@x.org>", "person:ann@x.org", "a@b@c", "", 7, None]
)
def test_what_is_no_address_is_nobody(said: Any) -> None:
    assert address_of(said) == ""


def test_names_of_a_file_hold_nothing_that_a_terminal_obeys(tmp_path: Path) -> None:
    people = [
        {"email": "ann@example.org", "name": "A\x1b]0;x\x07nn\nBen", "teams": ["pay\x1b[31m"], "manager": "x\ny@z"}
    ]
    (tmp_path / "d.json").write_text(json.dumps({"people": people, "teams": {"o\nps": []}}))
    found = read_file(tmp_path / "d.json")
    assert (found.people[0].display + "".join(found.teams)).isprintable() and found.people[0].manager == ""
