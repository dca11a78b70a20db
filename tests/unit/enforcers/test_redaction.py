"""What a permit asks to have masked is masked, or not sent at all."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from remit.client.enforce.asgi import Enforced
from remit.client.enforce.guard import Asked, Guard, Identified
from remit.client.enforce.pdp import Decided, Owed, Question
from remit.client.enforce.redact import MASK, Unmasked, fields_of, masked
from remit.client.enforce.routes import RouteTable

DOCUMENT = b'{"name":"ana","email":"a@b","rows":[{"email":"c@d","n":1}],"address":{"street":"x","city":"y"}}'


class Decides:
    """A decision point that permits, with obligations."""

    def __init__(self, *owed: Owed) -> None:
        self._owed = owed

    def ask(self, question: Question) -> Decided:
        return Decided(allowed=True, id="dc_1", reason="", obligations=self._owed)

    async def ask_async(self, question: Question) -> Decided:
        return self.ask(question)


def served(owed: Owed, body: bytes, headers: list[tuple[bytes, bytes]], *, parts: int = 1) -> tuple[int, bytes]:
    """What a client reads through the middleware."""
    from remit.client.enforce.routes import Matched

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        size = -(-len(body) // parts)
        for at in range(0, len(body), size):
            more = at + size < len(body)
            await send({"type": "http.response.body", "body": body[at : at + size], "more_body": more})

    class Table(RouteTable):
        def match(self, method: str, host: str, path: str) -> Matched | None:
            return Matched(action="read", kind="service", name="crm")

    def identify(asked: Asked) -> Identified:
        return Identified(subject="id_1")

    guard = Guard(Decides(owed), Table(()), identify=identify, fulfils=("redact",))
    sent: list[Mapping[str, Any]] = []

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/x", "raw_path": b"/x", "headers": [(b"host", b"h")]}
    asyncio.run(Enforced(app, guard)(scope, None, send))  # type: ignore[arg-type]
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


def test_names_are_masked_at_every_depth_and_paths_where_they_lead() -> None:
    found = msgspec.json.decode(masked(DOCUMENT, ("email", "address.street")))
    assert found == {
        "name": "ana", "email": MASK, "rows": [{"email": MASK, "n": 1}], "address": {"street": MASK, "city": "y"},
    }  # fmt: skip


def test_without_fields_everything_is_masked() -> None:
    assert msgspec.json.decode(masked(b'[{"a":1}]', fields_of(["redact"]))) == [{"a": MASK}]


def test_what_is_no_json_is_not_masked_by_guess() -> None:
    with pytest.raises(Unmasked):
        masked(b"<email>a@b</email>", ("email",))


@pytest.mark.parametrize("parts", [1, 3])
def test_the_middleware_sends_the_masked_answer(parts: int) -> None:
    owed = Owed(kind="redact", detail="email")
    status, body = served(owed, DOCUMENT, [(b"content-length", b"%d" % len(DOCUMENT))], parts=parts)
    assert status == 200
    assert b"a@b" not in body and b"c@d" not in body and b"ana" in body


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (gzip.compress(DOCUMENT, mtime=0), [(b"content-encoding", b"gzip")]),
        (b"email=a@b", [(b"content-type", b"text/plain")]),
        (b'"a@b"', [(b"Content-Range", b"bytes 21-25/28")]),
        (DOCUMENT, [(b"x-accel-redirect", b"/customers.json")]),
    ],
)
def test_an_answer_that_cannot_be_masked_is_not_sent(body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    status, told = served(Owed(kind="redact", detail="email"), body, headers)
    assert status == 403
    assert b"a@b" not in told and body not in told
