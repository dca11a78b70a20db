"""An HTTPS server of ours on the loopback interface, under a CA of its own: what it answers, tests say."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(slots=True)
class Answer:
    """What is sent back: `body` as it is when it is bytes, as JSON otherwise."""

    body: Any = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def raw(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass(slots=True)
class HttpsStage:
    """The server's address, its CA's file, and who answers which path."""

    ca_file: Path
    url: str = ""
    routes: dict[str, Callable[[bytes, Mapping[str, str]], Answer]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    """The paths that were asked for, in order."""

    def on(self, path: str, answer: Any, **headers: str) -> None:
        """Answer a path with this JSON, bytes or `Answer`."""
        fixed = answer if isinstance(answer, Answer) else Answer(answer, headers=headers)
        self.routes[path] = lambda body, said: fixed


@contextmanager
def https_stage(folder: Path) -> Iterator[HttpsStage]:
    """Serve until the block ends."""
    stage = HttpsStage(ca_file=folder / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_certificate(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(stage))
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    stage.url = f"https://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield stage
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(stage: HttpsStage) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(b"")

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers.get("content-length", "0"))))

        def _answer(self, body: bytes) -> None:
            stage.asked.append(self.path)
            route = stage.routes.get(self.path)
            answer = route(body, self.headers) if route else Answer(status=404)  # type: ignore[arg-type]
            try:
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("content-length", str(len(answer.raw)))
                self.end_headers()
                self.wfile.write(answer.raw)
            except OSError:
                pass  # it had enough

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    return Handler


def _certificate(folder: Path) -> Path:
    """A CA in `ca.pem`, and a server certificate for 127.0.0.1 with its key in the file that is returned."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test CA")])
    now = datetime.now(UTC)

    def builder(public: ec.EllipticCurvePublicKey, subject: x509.Name) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        )

    usage = {
        "digital_signature": True, "content_commitment": False, "key_encipherment": False, "data_encipherment": False,
        "key_agreement": False, "key_cert_sign": True, "crl_sign": True, "encipher_only": False, "decipher_only": False,
    }  # fmt: skip
    ca = (
        builder(ca_key.public_key(), ca_name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    leaf = (
        builder(key.public_key(), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "issuer")]))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    (folder / "ca.pem").write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    both = folder / "server.pem"
    both.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + leaf.public_bytes(serialization.Encoding.PEM)
    )
    return both
