"""HTTP and TLS of the API server of the tests: requests, and watches that nobody authenticates again."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kubernetes_kinds import Failure
from kubernetes_rbac import Ask, Object, User


def handler(api: Any) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def log_message(self, format: str, *args: Any) -> None:
            return

        def handle(self) -> None:
            with suppress(OSError):
                super().handle()

        def _do(self) -> None:
            body = self._body()
            where = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(where.query).items()}
            if "as=Table" in self.headers.get("accept", "").partition(",")[0]:
                query["as"] = "Table"
            try:
                if api.stopping:
                    raise Failure(503, "ServiceUnavailable", "shutting down")
                user = self._user()
                if query.get("watch") in ("1", "true"):
                    self._watch(user, where.path, query)
                    return
                kind = self.headers.get("content-type", "application/json").partition(";")[0]
                if body and "json" not in kind:
                    raise Failure(415, "UnsupportedMediaType", f"{kind} is not supported")
                code, answer = api.answer(user, self.command, where.path, query, json.loads(body) if body else {})
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                code, answer = 400, Failure(400, "BadRequest", f"it cannot be read: {error!r}").status
            except Failure as failure:
                code, answer = failure.code, failure.status
            content = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            self.wfile.flush()

        do_GET = do_POST = do_PATCH = do_DELETE = _do

        def _body(self) -> bytes:
            if self.headers.get("transfer-encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("content-length") or 0))
            held = b""
            while size := int(self.rfile.readline(), 16):
                held += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return held

        def _user(self) -> User:
            token = self.headers.get("authorization", "").removeprefix("Bearer ")
            if not token and not api.trusting:
                return User(name="system:anonymous", groups=("system:unauthenticated",))
            user: User | None = api.user_of(token)
            if user is None:
                raise Failure(401, "Unauthorized", "Unauthorized")
            return user

        def _watch(self, user: User, path: str, query: Mapping[str, str]) -> None:
            parts = path.strip("/").split("/")
            group, rest = ("", parts[2:]) if parts[0] == "api" else (parts[1], parts[3:])
            kind, space, name, _ = api.target(group, rest)
            ask = Ask(verb="watch", group=group, resource=kind.resource, namespace=space, name=name)
            api.require(user, ask)
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            self.wfile.flush()
            with api.changed:
                since = int(query.get("resourceVersion") or 0)
                if not since:
                    since = api.version
                    for one in api.selected(kind, space, query.get("labelSelector", "")):
                        self._event("ADDED", one)
            until = time.monotonic() + float(query.get("timeoutSeconds") or 1800)
            api.streams += 1
            try:
                # Nobody asks again who this is: a stream lives until its client, its time or the server ends.
                while not api.stopping and time.monotonic() < until:
                    with api.changed:
                        fresh = [event for event in api.events if event[0] > since]
                        if not fresh:
                            api.changed.wait(0.2)
                    for number, what, of, one in fresh:
                        since = number
                        if of is kind and (not space or one["metadata"].get("namespace") == space):
                            self._event(what, one)
            finally:
                api.streams -= 1
            self.wfile.write(b"0\r\n\r\n")
            self.wfile.flush()

        def _event(self, what: str, one: Object) -> None:
            line = json.dumps({"type": what, "object": one}).encode() + b"\n"
            self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
            self.wfile.flush()

    return Handler


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, api: Any, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__(("127.0.0.1", 0), handler(api))
        self._sockets: set[Any] = set()

    def finish_request(self, request: Any, client_address: Any) -> None:
        with suppress(OSError):
            request.settimeout(60)
            wrapped = self._context.wrap_socket(request, server_side=True)
            self._sockets.add(wrapped)
            try:
                super().finish_request(wrapped, client_address)
            finally:
                self._sockets.discard(wrapped)
                wrapped.close()

    def hang_up(self) -> None:
        for one in [*self._sockets]:
            with suppress(OSError):
                one.shutdown(2)
