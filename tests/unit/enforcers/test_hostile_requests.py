"""What a client may send to look like somebody else, or like another request: taken away, or refused."""

from __future__ import annotations

import asyncio
import functools
from typing import Any, ClassVar

import pytest

from remit.client.enforce import Guard, RouteTable
from remit.client.enforce.answers import OWN_HEADERS, passes
from remit.client.enforce.asgi import Enforced
from remit.client.enforce.guard import Asked, Identified
from remit.client.enforce.paths import canonical_path
from remit.client.enforce.pdp import Decided, Question
from remit.kernel.errors import Rejected
from remit.surface.enforcers.ext_authz import response


class Yes:
    """A decision point that permits everything, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Question] = []

    def ask(self, question: Question) -> Decided:
        self.asked.append(question)
        return Decided(allowed=True, id="dc_1")

    async def ask_async(self, question: Question) -> Decided:
        return self.ask(question)


ROUTES: list[dict[str, Any]] = [
    {"path": "/admin", "host": "api.example", "action": "administer", "resource": "service/admin"},
    {"path": "/**", "action": "read", "resource": "service/pages"},
]


def guard(pdp: Yes) -> Guard:
    return Guard(pdp, RouteTable.parse(ROUTES), identify=lambda asked: Identified(subject="spiffe://remit.test/a"))


def spelt(name: str) -> list[str]:
    return [name, name.upper(), name.replace("-", "_"), name.title().replace("-", "_")]


@pytest.mark.parametrize("name", [each for own in OWN_HEADERS for each in spelt(own)])
def test_an_application_gets_none_of_our_headers_from_a_client(name: str) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend(scope["headers"])

    scope = {"type": "http", "method": "GET", "path": "/x", "raw_path": b"/x",
             "headers": [(b"host", b"api.example"), (name.encode(), b"spiffe://remit.test/admin")]}  # fmt: skip
    asyncio.run(Enforced(app, guard(Yes()))(scope, None, None))  # type: ignore[arg-type]
    assert seen == [(b"host", b"api.example")]


def test_envoy_takes_away_our_names_as_wsgi_reads_them_too() -> None:
    removed = set(response(passes(decision="dc_1", subject="spiffe://remit.test/a")).ok_response.headers_to_remove)
    assert {name.replace("-", "_") for name in OWN_HEADERS} <= removed


@pytest.mark.parametrize("host", ["api.example", "API.example", "api.example.", "api.example:443", "api.example.:443"])
def test_a_host_is_the_same_however_it_is_spelt(host: str) -> None:
    pdp = Yes()
    guard(pdp).check(Asked(method="GET", host=host, path="/admin", target="/admin"))
    assert [question.action for question in pdp.asked] == ["administer"]


@pytest.mark.parametrize(
    "target",
    [
        "/a/%EF%BC%8E%EF%BC%8E/admin",  # fullwidth full stops
        "/a%EF%BC%8Fadmin",  # fullwidth solidus
        "/%E2%80%A5/admin",  # two dot leader
        "/a%EF%BC%85",  # fullwidth per cent sign
        "/%E2%84%80admin",  # account of: `a/c`
        "/cafe%CC%81",  # e and an accent, apart
        "/%C0%AE%C0%AE/admin",  # dots in more bytes than they need
        "/a%E2%80%AEnimda",  # right to left
    ],
)
def test_characters_that_some_take_for_others_are_refused(target: str) -> None:
    with pytest.raises(Rejected):
        canonical_path(target)


@pytest.mark.parametrize("target", ["/caf%C3%A9", "/%E6%96%87%E6%9B%B8/1", "/%D0%BF%D1%83%D1%82%D1%8C"])
def test_words_of_any_language_are_taken(target: str) -> None:
    assert not canonical_path(target).isascii()


def test_django_shows_no_header_that_an_earlier_middleware_has_seen() -> None:
    django = pytest.importorskip("django.http.request", reason="django: not installed")
    from remit.client.enforce.wsgi import DjangoMiddleware

    class Request:
        """The part of `HttpRequest` that needs no settings."""

        META: ClassVar = {"REQUEST_METHOD": "GET", "PATH_INFO": "/x", "HTTP_HOST": "a", "HTTP_X_REMIT_SUBJECT": "admin"}
        headers = functools.cached_property(lambda self: django.HttpHeaders(self.META))

    made, request = DjangoMiddleware.__new__(DjangoMiddleware), Request()
    made._guard, made._is_async, made._get_response = guard(Yes()), False, lambda request: request.headers
    assert request.headers["X-Remit-Subject"] == "admin"
    assert "X-Remit-Subject" not in made(request)
