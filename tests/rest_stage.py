"""APIs that keep credentials, on loopback and in memory: Kubernetes Secrets, GitLab variables, GitHub Actions secrets.

They hold what their documentation says of paths, methods, headers and status, and nothing more.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

from nacl.public import PrivateKey, SealedBox

TOKEN = "a-token-of-the-api"


@dataclass(slots=True)
class Apis:
    """What the three hold, in clear."""

    url: str = ""
    secret: dict[str, str] = field(default_factory=dict)
    """Keys of the Secret `shop/db`, as they lie there: base64."""
    variables: dict[str, str] = field(default_factory=dict)
    github: dict[str, str] = field(default_factory=dict)
    key: PrivateKey = field(default_factory=PrivateKey.generate)
    fails: int = 0
    """Answers 503 to so many requests."""


@contextmanager
def rest_apis() -> Iterator[Apis]:
    """Serve on a free port until the block ends."""
    apis = Apis()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            return

        def answer(self, status: int, body: Any = None) -> None:
            raw = b"" if body is None else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def respond(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            if apis.fails:
                apis.fails -= 1
                return self.answer(503)
            allowed = (f"Bearer {TOKEN}", TOKEN)
            if self.headers.get("authorization", self.headers.get("private-token")) not in allowed:
                return self.answer(401)
            path = self.path.split("/")
            if self.path == "/api/v1/namespaces/shop/secrets/db":
                return self.kubernetes(body)
            if self.path.startswith("/api/v4/projects/shop%2Fapp/variables"):
                return self.gitlab("" if path[-1] == "variables" else unquote(path[-1]), body)
            if self.path.startswith("/repos/shop/app/actions/secrets/"):
                return self.github(path[-1], body)
            return self.answer(404)

        def kubernetes(self, body: Any) -> None:
            if self.command == "PATCH":
                if self.headers["content-type"] != "application/merge-patch+json":
                    return self.answer(415)
                for key, value in body["data"].items():
                    if value is None:
                        apis.secret.pop(key, None)
                    else:
                        base64.b64decode(value, validate=True)
                        apis.secret[key] = value
            return self.answer(200, {"kind": "Secret", "data": apis.secret})

        def gitlab(self, name: str, body: Any) -> None:
            if self.command == "POST":
                if body["key"] in apis.variables:
                    return self.answer(400)
                apis.variables[body["key"]] = body["value"]
                return self.answer(201, {})
            if name not in apis.variables:
                return self.answer(404)
            if self.command == "PUT":
                apis.variables[name] = body["value"]
            if self.command == "DELETE":
                del apis.variables[name]
                return self.answer(204)
            return self.answer(200, {"key": name, "value": apis.variables[name]})

        def github(self, name: str, body: Any) -> None:
            if name == "public-key":
                key = base64.b64encode(bytes(apis.key.public_key)).decode()
                return self.answer(200, {"key": key, "key_id": "1"})
            if self.command != "PUT" or body["key_id"] != "1":
                return self.answer(405)
            apis.github[name] = SealedBox(apis.key).decrypt(base64.b64decode(body["encrypted_value"])).decode()
            return self.answer(201, {})

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = respond

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    apis.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield apis
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
