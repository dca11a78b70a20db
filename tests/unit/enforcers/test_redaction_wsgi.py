"""What a permit asks to have masked is masked by the middlewares of WSGI and Django too, or not sent at all."""

from __future__ import annotations

import asyncio
import gzip
import io
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import django.conf
import pytest
from django.http import HttpResponse, StreamingHttpResponse

from remit.client.enforce.guard import Asked, Guard, Identified
from remit.client.enforce.pdp import Decided, Owed, Question
from remit.client.enforce.redact import MOST_BYTES
from remit.client.enforce.routes import Matched, RouteTable
from remit.client.enforce.wsgi import DjangoMiddleware, EnforcedWsgi

DOCUMENT = b'{"name":"ana","email":"a@b"}'
MASKED = b'{"name":"ana","email":"[redacted]"}'
Body = Iterable[bytes]
Serve = Callable[[Guard, Body, dict[str, str]], tuple[int, dict[str, str], bytes]]


class Decides:
    """A decision point that permits, with obligations."""

    def __init__(self, *owed: Owed) -> None:
        self._owed = owed

    def ask(self, question: Question) -> Decided:
        return Decided(allowed=True, id="dc_1", reason="", obligations=self._owed)

    async def ask_async(self, question: Question) -> Decided:
        return self.ask(question)


class Everything(RouteTable):
    def match(self, method: str, host: str, path: str) -> Matched | None:
        return Matched(action="read", kind="service", name="crm")


def guard(*owed: Owed) -> Guard:
    def identify(asked: Asked) -> Identified:
        return Identified(subject="id_1")

    return Guard(Decides(*owed), Everything(()), identify=identify, fulfils=("redact",))


EMAIL = Owed(kind="redact", detail="email")


def environ() -> dict[str, Any]:
    return {"REQUEST_METHOD": "GET", "PATH_INFO": "/x", "HTTP_HOST": "h", "wsgi.input": io.BytesIO()}


def wsgi(guard: Guard, body: Body, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
    def app(environ: Any, start_response: Any) -> Body:
        start_response("200 OK", list(headers.items()))
        return body

    return call(app, guard)


def written(guard: Guard, body: Body, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
    """An application of the old sort: it writes, and says late how its answer begins."""

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        write = start_response("200 OK", list(headers.items()))
        for part in body:
            write(part)
        yield b""

    return call(app, guard)


def call(app: Any, guard: Guard) -> tuple[int, dict[str, str], bytes]:
    sent: list[Any] = []
    body: list[bytes] = []

    def start_response(*begun: Any) -> Callable[[bytes], None]:
        sent.append(begun)
        return body.append

    body += EnforcedWsgi(app, guard)(environ(), start_response)
    status, headers = sent[-1][:2]
    return int(status.split()[0]), dict(headers), b"".join(body)


def in_django(guard: Guard, make: Callable[[], Any], *, later: bool) -> tuple[int, dict[str, str], bytes]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(django.conf, "settings", SimpleNamespace(REMIT_GUARD=guard))
        asked = SimpleNamespace(META=environ())
        if later:

            async def view(request: Any) -> Any:
                return make()

            found = asyncio.run(DjangoMiddleware(view)(asked))
        else:
            found = DjangoMiddleware(lambda request: make())(asked)
    body = b"".join(found.streaming_content) if found.streaming else found.content
    return found.status_code, dict(found.headers), body


def django_sync(guard: Guard, body: Body, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
    return in_django(guard, lambda: answer_of(body, headers), later=False)


def django_async(guard: Guard, body: Body, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
    return in_django(guard, lambda: answer_of(body, headers), later=True)


def answer_of(body: Body, headers: dict[str, str]) -> HttpResponse:
    return HttpResponse(b"".join(body), headers={"Content-Type": "application/json", **headers})


every = pytest.mark.parametrize("serve", [wsgi, written, django_sync, django_async])


@every
def test_the_answer_is_masked_and_its_length_told_anew(serve: Serve) -> None:
    status, headers, body = serve(guard(EMAIL), [DOCUMENT[:9], DOCUMENT[9:]], {"Content-Length": str(len(DOCUMENT))})
    assert (status, body) == (200, MASKED)
    assert headers.get("Content-Length", str(len(MASKED))) == str(len(MASKED))


@every
def test_what_told_of_the_body_before_is_not_told(serve: Serve) -> None:
    _, headers, _ = serve(guard(EMAIL), [DOCUMENT], {"ETag": '"1"', "X-Kept": "y"})
    assert "ETag" not in headers and headers["X-Kept"] == "y"


@every
def test_without_such_an_obligation_nothing_is_touched(serve: Serve) -> None:
    status, headers, body = serve(guard(), [DOCUMENT], {"ETag": '"1"'})
    assert (status, body, headers["ETag"]) == (200, DOCUMENT, '"1"')


@every
@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (gzip.compress(DOCUMENT, mtime=0), {"Content-Encoding": "gzip"}),
        (b"email=a@b", {}),
        (b'"' + b"a" * MOST_BYTES + b'"', {}),
        (b'"a@b"', {"Content-Range": "bytes 21-25/28"}),
    ],
    ids=["compressed", "no JSON", "too large", "a part"],
)
def test_what_cannot_be_masked_is_not_sent(serve: Serve, body: bytes, headers: dict[str, str]) -> None:
    status, _, told = serve(guard(EMAIL), [body], headers)
    assert status == 403 and body not in told and b"cannot be redacted" in told


@every
@pytest.mark.parametrize("name", ["X-Accel-Redirect", "X-Sendfile"])
def test_a_file_that_a_server_would_send_in_its_place_is_not_sent(serve: Serve, name: str) -> None:
    status, headers, _ = serve(guard(EMAIL), [], {name: "/customers.json"})
    assert status == 403 and name not in headers


@every
def test_where_all_is_masked_lists_and_plain_values_are_too(serve: Serve) -> None:
    everything = guard(Owed(kind="redact", detail=""))
    assert serve(everything, [b'["a@b",[1]]'], {})[2] == b'["[redacted]",["[redacted]"]]'
    assert serve(everything, [b'"a@b"'], {})[2] == b'"[redacted]"'


@every
def test_an_answer_without_a_body_stays_so(serve: Serve) -> None:
    assert serve(guard(EMAIL), [], {})[2] == b""


def test_a_stream_of_django_is_not_sent() -> None:
    def make() -> StreamingHttpResponse:
        return StreamingHttpResponse([DOCUMENT], headers={"Content-Type": "a/b", "X-Name": "ana"})

    status, headers, told = in_django(guard(EMAIL), make, later=False)
    assert (status, headers) == (403, {"Content-Type": "application/json"})
    assert b"a@b" not in told and b"it is a stream" in told


def test_a_stream_of_django_under_asgi_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    async def view(request: Any) -> StreamingHttpResponse:
        async def rows() -> AsyncIterator[bytes]:
            yield DOCUMENT

        return StreamingHttpResponse(rows(), content_type="a/b")

    async def steps() -> bytes:
        found = await DjangoMiddleware(view)(SimpleNamespace(META=environ()))
        return b"".join([part async for part in found.streaming_content])

    monkeypatch.setattr(django.conf, "settings", SimpleNamespace(REMIT_GUARD=guard(EMAIL)))
    assert b"a@b" not in asyncio.run(steps())


def test_what_the_application_opened_is_closed() -> None:
    closed = []

    class Parts(list[bytes]):
        def close(self) -> None:
            closed.append(True)

    wsgi(guard(EMAIL), Parts([DOCUMENT]), {})
    assert closed == [True]
