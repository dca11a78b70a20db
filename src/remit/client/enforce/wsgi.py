"""WSGI and Django: a middleware for each.

    application = EnforcedWsgi(application, guard=guard)

    # Django: settings.py
    REMIT_GUARD = guard
    MIDDLEWARE = ["remit.client.enforce.wsgi.DjangoMiddleware", ...]       # the first of them

An application finds the answer in `environ["remit"]`, a view of Django in `request.META["remit"]`. A guard that says
`fulfils=("redact",)` has the middleware mask the fields of `@obligation("redact: …")` in JSON answers: such an answer
is held back whole, and one that cannot be masked (a stream of Django's, say) is not sent.

Spec: PEP 3333; Django, "Middleware".
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, MutableMapping
from typing import Any, Final

from remit.client.enforce.answers import OWN_HEADERS, Answer
from remit.client.enforce.guard import Asked, Guard
from remit.client.enforce.redact import MOST_BYTES, Unmasked, fields_of, is_dropped, redacted, refusal_of

Environ = MutableMapping[str, Any]
StartResponse = Callable[..., Any]
KEY: Final = "remit"
_OWN: Final = tuple("HTTP_" + name.upper().replace("-", "_") for name in OWN_HEADERS)
_PHRASES: Final = {401: "Unauthorized", 403: "Forbidden", 503: "Service Unavailable"}


class EnforcedWsgi:
    """Lets through what the guard lets through."""

    def __init__(self, app: Callable[[Environ, StartResponse], Iterable[bytes]], guard: Guard) -> None:
        self._app = app
        self._guard = guard

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        answer = self._guard.check(asked_of(environ))
        if not answer.allowed:
            body = answer.body
            headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
            start_response(f"{answer.status} {_PHRASES[answer.status]}", [*headers, *answer.headers.items()])
            return [body]
        prepare(environ, answer)
        fields = fields_of(answer.obligations)
        return (
            _redacted_wsgi(self._app, environ, start_response, fields) if fields else self._app(environ, start_response)
        )


class DjangoMiddleware:
    """For Django under WSGI or ASGI; the guard is `settings.REMIT_GUARD`."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        from asgiref.sync import iscoroutinefunction, markcoroutinefunction
        from django.conf import settings  # type: ignore[import-untyped,unused-ignore]

        self._get_response = get_response
        self._guard: Guard = settings.REMIT_GUARD
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: Any) -> Any:
        if self._is_async:
            return self._decide(request)
        answer = self._guard.check(_asked_of_django(request))
        if not answer.allowed:
            return _django_refusal(answer)
        return _redacted_django(self._passed(request, answer), fields_of(answer.obligations))

    async def _decide(self, request: Any) -> Any:
        answer = await self._guard.check_async(_asked_of_django(request))
        if not answer.allowed:
            return _django_refusal(answer)
        return _redacted_django(await self._passed(request, answer), fields_of(answer.obligations))

    def _passed(self, request: Any, answer: Answer) -> Any:
        prepare(request.META, answer)
        request.__dict__.pop("headers", None)  # Django keeps what an earlier middleware has looked at
        return self._get_response(request)


def asked_of(environ: Mapping[str, Any]) -> Asked:
    """The request of an environment; `PATH_INFO` is what the application routes by, after `SCRIPT_NAME`."""
    path = str(environ.get("SCRIPT_NAME", "")) + str(environ.get("PATH_INFO", ""))
    raw = str(environ.get("RAW_URI") or environ.get("REQUEST_URI") or "")

    def header(name: str) -> tuple[str, ...]:
        return (str(environ[name]),) if name in environ else ()

    return Asked(
        method=str(environ["REQUEST_METHOD"]), host=str(environ.get("HTTP_HOST", "")),
        path=path.encode("latin-1", "replace").decode("utf-8", "replace"), target=raw,
        scheme=str(environ.get("wsgi.url_scheme", "https")), authorization=header("HTTP_AUTHORIZATION"),
        dpop=header("HTTP_DPOP"), native=environ,
    )  # fmt: skip


def prepare(environ: Environ, answer: Answer) -> None:
    """Take away the headers that only we set, and leave the answer for the application."""
    for name in _OWN:
        environ.pop(name, None)
    environ[KEY] = answer


def _redacted_wsgi(
    app: Callable[[Environ, StartResponse], Iterable[bytes]],
    environ: Environ,
    start_response: StartResponse,
    fields: tuple[str, ...],
) -> Iterable[bytes]:
    """Run the application with its answer held back, and send that masked, or a refusal."""
    begun: list[tuple[str, list[tuple[str, str]]]] = []
    parts: list[bytes] = []

    def begin(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
        begun[:] = [(status, headers)]
        return parts.append

    found = app(environ, begin)
    try:
        size = 0
        for part in found:
            parts.append(part)
            size += len(part)
            if size > MOST_BYTES:
                break
    finally:
        if hasattr(found, "close"):
            found.close()
    [(status, headers)] = begun
    try:
        body = redacted(b"".join(parts), headers, fields, status=int(status[:3]))
    except Unmasked as why:
        body, status, headers = refusal_of(why), f"403 {_PHRASES[403]}", [("Content-Type", "application/json")]
    kept = [(name, value) for name, value in headers if not is_dropped(name)]
    start_response(status, [*kept, ("Content-Length", str(len(body)))])
    return [body]


def _redacted_django(response: Any, fields: tuple[str, ...]) -> Any:
    """Django's answer with these fields masked; nothing is masked where there are none."""
    if not fields:
        return response
    try:
        if response.streaming:
            raise Unmasked("it is a stream")
        response.content = redacted(response.content, response.items(), fields, status=response.status_code)
    except Unmasked as why:
        return _refused_django(response, refusal_of(why))
    for name in [name for name in response.headers if is_dropped(name)]:
        del response[name]
    return response


def _refused_django(response: Any, body: bytes) -> Any:
    """The same answer, which closes what the view opened, with nothing of it left but that it is refused."""
    response.status_code = 403
    response.cookies.clear()
    for name in list(response.headers):
        del response[name]
    response["Content-Type"] = "application/json"
    if response.streaming:
        response.streaming_content = _once(body) if response.is_async else [body]
    else:
        response.content = body
    return response


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


def _asked_of_django(request: Any) -> Asked:
    scope = getattr(request, "scope", None)
    if scope is not None:
        from remit.client.enforce.asgi import asked_of as asked_of_scope

        return asked_of_scope(scope)
    return asked_of(request.META)


def _django_refusal(answer: Answer) -> Any:
    from django.http import HttpResponse  # type: ignore[import-untyped,unused-ignore]

    return HttpResponse(
        answer.body, status=answer.status, content_type="application/json", headers=dict(answer.headers)
    )
