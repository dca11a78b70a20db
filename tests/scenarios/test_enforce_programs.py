"""Programs that enforce by themselves: FastAPI, Litestar, Django (WSGI and ASGI), gRPC; a running installation decides."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi import FastAPI, Request

from enforce_stage import API, FRONT, ORDERS, Stage, enforce_stage
from remit.client.enforce import Guard, Pdp, ResourceServer, RouteTable
from remit.client.enforce.asgi import Enforced, enforced
from remit.client.enforce.wsgi import DjangoMiddleware, EnforcedWsgi

ROUTES = [
    {"method": ["GET"], "path": "/orders/{order}", "action": "read", "resource": "service/orders", "audience": API},
    {"path": "/vault", "action": "secret:read", "resource": "service/vault", "audience": API},
    {"path": "/shop.Orders/Get", "action": "read", "resource": "service/orders", "audience": API},
    {"path": "/shop.Orders/List", "action": "read", "resource": "service/orders", "audience": API},
    {"path": "/shop.Orders/Drop", "action": "delete", "resource": "service/orders", "audience": API},
    {"path": "/healthz", "public": True},
]
Answered = tuple[int, Mapping[str, str], bytes]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with enforce_stage('proxy = "nginx"\nsubjects = ["token"]') as made:
        yield made


@pytest.fixture(scope="module")
def guard(stage: Stage) -> Iterator[Guard]:
    pdp = Pdp(stage.decisions, timeout=30)
    yield Guard(pdp, RouteTable.parse(ROUTES), tokens=ResourceServer(stage.issuer), base="https://api.example")
    pdp.close()


@pytest.fixture(scope="module")
def token(stage: Stage) -> Callable[[str], dict[str, str]]:
    """An access token that is bound to our DPoP key, with a fresh proof, as headers."""
    tokens = {who: stage.dpop_token(who) for who in (FRONT, ORDERS)}

    def made(who: str, *, target: str = "/orders/1", method: str = "GET") -> dict[str, str]:
        proof = stage.dpop_proof(method, f"https://api.example{target}", tokens[who])
        return {"authorization": f"DPoP {tokens[who]}", "dpop": proof}

    return made


# Ways to call an application without a server.


def call_asgi(app: Any, target: str, headers: Mapping[str, str] | None = None) -> Answered:
    sent: list[Any] = []

    async def whole() -> None:
        waiting = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> Any:
            return waiting.pop() if waiting else await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)

        path, _, query = target.partition("?")
        fields = {"host": "api.example", **(headers or {})}
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "https",
            "path": unquoted(path), "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in fields.items()],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "state": {},
        }  # fmt: skip
        await app(scope, receive, send)

    asyncio.run(whole())
    start = next(one for one in sent if one["type"] == "http.response.start")
    body = b"".join(one.get("body", b"") for one in sent if one["type"] == "http.response.body")
    return start["status"], {name.decode().lower(): value.decode() for name, value in start["headers"]}, body


def call_wsgi(app: Any, target: str, headers: Mapping[str, str] | None = None) -> Answered:
    path, _, query = target.partition("?")
    got: list[Any] = []
    environ = {
        "REQUEST_METHOD": "GET", "PATH_INFO": unquoted(path), "SCRIPT_NAME": "", "QUERY_STRING": query,
        "SERVER_NAME": "api.example", "SERVER_PORT": "443", "SERVER_PROTOCOL": "HTTP/1.1", "HTTP_HOST": "api.example",
        "REQUEST_URI": target, "wsgi.url_scheme": "https", "wsgi.input": io.BytesIO(), "wsgi.errors": io.StringIO(),
        "wsgi.version": (1, 0), "wsgi.multithread": True, "wsgi.multiprocess": False, "wsgi.run_once": False,
        **{"HTTP_" + name.upper().replace("-", "_"): value for name, value in (headers or {}).items()},
    }  # fmt: skip
    found = app(environ, lambda status, fields, *more: got.append((status, fields)))
    body = b"".join(found)
    if hasattr(found, "close"):
        found.close()
    status, fields = got[0]
    return int(status.split()[0]), {name.lower(): value for name, value in fields}, body


def unquoted(path: str) -> str:
    from urllib.parse import unquote

    return unquote(path)


# The applications.


def fastapi_app(guard: Guard) -> Any:
    app = FastAPI()

    @app.get("/orders/{order}")
    async def order(order: str, request: Request) -> dict[str, str]:
        return {"order": order, "by": request.state.remit.subject, "said": request.headers.get("x-remit-subject", "")}

    @app.get("/vault")
    async def vault() -> str:
        return "open"

    @app.get("/healthz")
    async def healthz() -> str:
        return "ok"

    @app.get("/admin")
    async def admin() -> str:
        return "reached"

    app.add_middleware(Enforced, guard=guard)
    return app


def fastapi_decorated(guard: Guard) -> Any:
    app = FastAPI()

    @app.get("/orders/{order}")
    @enforced(guard, "read", "service/orders", audience=API)
    async def order(order: str, request: Request) -> dict[str, str]:
        return {"order": order, "by": request.state.remit.subject}

    return app


def litestar_app(guard: Guard) -> Any:
    from litestar import Litestar, get
    from litestar.params import FromPath

    @get("/orders/{order:str}")
    async def order(order: FromPath[str]) -> dict[str, str]:
        return {"order": order}

    return Enforced(Litestar([order], openapi_config=None), guard)


def django_wsgi(guard: Guard) -> Any:
    return configured_django(guard).get_wsgi_application()


def django_asgi(guard: Guard) -> Any:
    configured_django(guard)
    from django.core.asgi import get_asgi_application

    return get_asgi_application()


_CONFIGURING = threading.Lock()


def configured_django(guard: Guard) -> Any:
    from django.conf import settings

    with _CONFIGURING:
        if not settings.configured:
            settings.configure(
                ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="x" * 50, REMIT_GUARD=guard, LOGGING_CONFIG=None,
                MIDDLEWARE=[f"{DjangoMiddleware.__module__}.{DjangoMiddleware.__qualname__}"],
            )  # fmt: skip
        settings.REMIT_GUARD = guard
    import django.core.wsgi

    return django.core.wsgi


def _urls() -> list[Any]:
    from django.http import JsonResponse
    from django.urls import path

    def order(request: Any, order: str) -> Any:
        return JsonResponse({"order": order, "by": request.META["remit"].subject})

    return [path("orders/<str:order>", order), path("vault", order, {"order": ""}), path("admin", order, {"order": ""})]


def __getattr__(name: str) -> Any:
    """Django reads `urlpatterns` here, when it is configured."""
    if name == "urlpatterns":
        return _urls()
    raise AttributeError(name)


def plain_wsgi(guard: Guard) -> Any:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [environ["remit"].subject.encode() + environ.get("HTTP_X_REMIT_SUBJECT", "").encode()]

    return EnforcedWsgi(app, guard)


APPS = {
    "fastapi": (fastapi_app, call_asgi), "litestar": (litestar_app, call_asgi), "django-asgi": (django_asgi, call_asgi),
    "django-wsgi": (django_wsgi, call_wsgi), "wsgi": (plain_wsgi, call_wsgi),
}  # fmt: skip


@pytest.fixture(params=APPS)
def call(request: pytest.FixtureRequest, guard: Guard) -> Callable[..., Answered]:
    make, caller = APPS[request.param]
    app = make(guard)
    return lambda *args: caller(app, *args)


def test_who_may_is_served(call: Any, token: Any) -> None:
    status, _, body = call("/orders/1?page=2", {**token(FRONT), "x-remit-subject": "forged"})
    assert status == 200 and b"forged" not in body, body


def test_who_may_not_is_refused_with_a_reason(call: Any, token: Any) -> None:
    status, headers, body = call("/orders/1", token(ORDERS))
    assert status == 403 and b'"reason":"' in body and headers["x-remit-decision"].startswith("dc_")


def test_nobody_is_challenged(call: Any) -> None:
    status, headers, _ = call("/orders/1")
    assert status == 401 and headers["www-authenticate"].startswith("Bearer")


def test_a_proof_counts_once(call: Any, token: Any) -> None:
    headers = token(FRONT)
    assert [call("/orders/1", headers)[0] for _ in range(2)] == [200, 401]


def test_fresher_proof_is_asked_for(call: Any, token: Any) -> None:
    status, headers, _ = call("/vault", token(FRONT, target="/vault"))
    assert status == 401 and "insufficient_user_authentication" in headers["www-authenticate"]


@pytest.mark.parametrize("target", ["/orders/../admin", "/orders/%2e%2e/admin", "//admin", "/admin", "/ADMIN",
                                    "/orders%2f1", "/orders/1/", "/orders/1;x", "/orders/1%00"])  # fmt: skip
def test_no_path_leads_around_the_routes(call: Any, token: Any, target: str) -> None:
    assert call(target, token(FRONT, target=target))[0] == 403


def test_a_decorated_endpoint_is_decided_before_it_runs(guard: Guard, token: Any) -> None:
    app = fastapi_decorated(guard)
    assert call_asgi(app, "/orders/7", token(FRONT, target="/orders/7"))[0] == 200
    status, headers, _ = call_asgi(app, "/orders/7", token(ORDERS, target="/orders/7"))
    assert status == 403 and headers["x-remit-decision"]


def test_a_revoked_token_is_refused_by_its_status_list(stage: Stage) -> None:
    guard = Guard(
        Pdp(stage.decisions, timeout=30), RouteTable.parse(ROUTES), tokens=ResourceServer(stage.issuer),
        base="https://api.example",
    )  # fmt: skip
    kept = stage.dpop_token()
    stage.post("/oauth2/revoke", {"token": kept, "client_assertion": stage.jwt_svid(FRONT),
                                  "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"})  # fmt: skip
    proof = stage.dpop_proof("GET", "https://api.example/orders/1", kept)
    status, _, body = call_asgi(fastapi_app(guard), "/orders/1", {"authorization": f"DPoP {kept}", "dpop": proof})
    assert status == 401 and b"revoked" in body


def test_without_a_decision_point_nothing_is_served(stage: Stage, token: Any) -> None:
    away = Guard(
        Pdp(stage.server.root / "nobody.sock", timeout=0.2), RouteTable.parse(ROUTES),
        tokens=ResourceServer(stage.issuer), base="https://api.example",
    )  # fmt: skip
    assert call_asgi(fastapi_app(away), "/orders/1", token(FRONT))[0] == 503
    assert call_wsgi(plain_wsgi(away), "/orders/1", token(FRONT))[0] == 503


# gRPC.


def handlers(*, aio: bool) -> Any:
    import grpc

    def get(request: bytes, context: Any) -> bytes:
        return b"got " + request

    def many(request: bytes, context: Any) -> Iterator[bytes]:
        yield from (b"1", b"2")

    async def get_aio(request: bytes, context: Any) -> bytes:
        return b"got " + request

    async def many_aio(request: bytes, context: Any) -> Any:
        yield b"1"
        yield b"2"

    return grpc.method_handlers_generic_handler(
        "shop.Orders",
        {
            "Get": grpc.unary_unary_rpc_method_handler(get_aio if aio else get),
            "Drop": grpc.unary_unary_rpc_method_handler(get_aio if aio else get),
            "List": grpc.unary_stream_rpc_method_handler(many_aio if aio else many),
        },
    )


def outcomes(port: int, token: Any) -> list[Any]:
    """What a real client is answered: allowed, streamed, denied, unknown, unauthenticated."""
    import grpc

    found: list[Any] = []
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:

        def ask(method: str, who: str = FRONT) -> None:
            path = f"/shop.Orders/{method}"
            sent = tuple(token(who, target=path, method="POST").items()) if who else ()
            try:
                if method == "List":
                    found.append(list(channel.unary_stream(path)(b"x", metadata=sent, timeout=60)))
                else:
                    found.append(channel.unary_unary(path)(b"x", metadata=sent, timeout=60))
            except grpc.RpcError as error:
                found.append(error.code().name)

        for call in (("Get",), ("List",), ("Drop",), ("Nothing",), ("Get", ORDERS), ("Get", "")):
            ask(*call)
    return found


EXPECTED = [b"got x", [b"1", b"2"], "PERMISSION_DENIED", "PERMISSION_DENIED", "PERMISSION_DENIED", "UNAUTHENTICATED"]


def test_grpc_calls_are_decided(guard: Guard, token: Any) -> None:
    import grpc

    from remit.client.enforce.grpc import EnforcedServer

    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool, handlers=[handlers(aio=False)], interceptors=[EnforcedServer(guard)])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            assert outcomes(port, token) == EXPECTED
        finally:
            server.stop(None).wait()


def test_grpc_aio_calls_are_decided(guard: Guard, token: Any) -> None:
    import grpc

    from remit.client.enforce.grpc import EnforcedAioServer

    async def whole() -> list[Any]:
        server = grpc.aio.server(handlers=[handlers(aio=True)], interceptors=[EnforcedAioServer(guard)])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            return await asyncio.to_thread(outcomes, port, token)
        finally:
            await server.stop(None)

    assert asyncio.run(whole()) == EXPECTED
