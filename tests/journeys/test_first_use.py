"""The first `remit run` of a task that nobody registered: registered where its needs can be met, and only there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from installation import Installation, installation

KEY = "k3y-Zq81vWm2xTs9-Lp47-of-the-shop"


class Shop(BaseHTTPRequestHandler):
    """A service that asks for a key."""

    def do_GET(self) -> None:
        self.send_response(200 if self.headers.get("authorization") == f"Bearer {KEY}" else 401)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def shop() -> Iterator[Installation]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Shop) as server, installation() as made:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        made.cli("people", "enrol", "ann")
        made.cli("secret", "add", "shop-key", "--for", "target/shop", stdin=KEY + "\n")
        made.cli(
            "target", "add", "static", "--name", "shop", "--url", f"static://127.0.0.1:{server.server_port}?tls=false",
            "--role", "use=GET /get/{key}", "--option", "secret=shop-key",
        )  # fmt: skip
        try:
            yield made
        finally:
            server.shutdown()


@pytest.mark.parametrize(
    ("need", "word"),
    [
        ("static//shop", "cannot be read"),
        ("static://shops?role=use", "no target is called `shops`"),
        ("redis://shop?role=use", "is of the system `static`"),
        ("static://shop?role=write", "no role `write`"),
    ],
)
def test_a_need_that_cannot_be_met_registers_nothing(shop: Installation, need: str, word: str) -> None:
    done = shop.cli("run", "--task", "nightly", "--need", need, "--", "true", code=125)
    assert word in done.stderr
    assert "registered" not in done.stderr
    assert "nightly" not in {each["name"] for each in shop.json("task", "ls")}
    assert not [each for each in shop.json("ls") if each["name"].endswith("nightly")]


def test_a_need_that_may_be_met_registers_the_task_and_the_policies_answer(shop: Installation) -> None:
    done = shop.cli("run", "--task", "weekly", "--need", "static://shop?role=use", "--", "true", code=125)
    assert "registered task `weekly` at its first use" in done.stderr
    assert "is denied" in done.stderr
    assert [each["name"] for each in shop.json("task", "ls")] == ["weekly"]
