"""A plain upstream for gateways: echoes, streams for ever, changes to a WebSocket, and compresses what it should not."""

from __future__ import annotations

import gzip
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(slots=True)
class SlowServer:
    port: int = 0
    streams_ended: threading.Event = field(default_factory=threading.Event)
    """Set when the client of an endless stream has gone."""


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no error; anything else is shown."""
        if not isinstance(sys.exc_info()[1], (BrokenPipeError, ConnectionResetError)):
            super().handle_error(request, client_address)


@contextmanager
def slow_server() -> Iterator[SlowServer]:
    """Serve until the block ends."""
    made, closing = SlowServer(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path == "/slow/socket":
                self.wfile.write(
                    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
                )
                self.wfile.write(b"\x81\x05frame")
                self.close_connection = True
            elif self.path.startswith("/slow/"):
                self._stream()
            elif self.path == "/coded":
                self._send(gzip.compress(str(self.headers["authorization"]).encode()), "content-encoding", "gzip")
            else:
                headers = {name.lower(): value for name, value in self.headers.items()}
                self._send(json.dumps(headers).encode(), "content-type", "application/json")

        def do_POST(self) -> None:
            self._send(self._body(), "content-type", "text/plain")

        def _body(self) -> bytes:
            if self.headers.get("transfer-encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("content-length", 0)))
            read = b""
            while size := int(self.rfile.readline(), 16):
                read += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return read

        def _send(self, body: bytes, name: str, value: str) -> None:
            self.send_response(200)
            self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _stream(self) -> None:
            self.send_response(200)
            self.send_header("connection", "close")
            self.end_headers()
            try:
                while not closing.wait(0.05):
                    self.wfile.write(b"tick\n")
            except OSError:
                made.streams_ended.set()
            self.close_connection = True

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    server = _Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    made.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
