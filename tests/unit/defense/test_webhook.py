"""The webhook against a real server on the loopback interface."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from remit.kernel.errors import Misconfigured, Rejected, RemitError, Unavailable
from remit.providers.webhook import MAX_BODY, Webhook, require_address


@dataclass
class Receiver:
    url: str = ""
    got: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)


@contextmanager
def receiver(
    status: int = 200, *, wait: float = 0, tls: tuple[Path, Path] | None = None, endless: bool = False
) -> Iterator[Receiver]:
    here = Receiver()
    done = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            here.got.append((self.path, {k.lower(): v for k, v in self.headers.items()}, json.loads(body)))
            done.wait(wait)
            self.send_response(status)
            if status == 307:
                self.send_header("location", here.url + "elsewhere")
            self.end_headers()
            while endless and not done.is_set():
                try:
                    self.wfile.write(b"x" * 65536)
                except OSError:
                    return

        do_GET = do_POST

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    here.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield here
    finally:
        done.set()
        server.shutdown()
        thread.join()
        server.server_close()


def send(url: str, body: dict[str, Any] | None = None, **settings: Any) -> None:
    asyncio.run(Webhook(url, **settings).post(body or {"a": 1}, key="rs_1"))


def refused(work: Callable[[], object]) -> RemitError:
    with pytest.raises(RemitError) as caught:
        work()
    return caught.value


def test_it_posts_once_with_its_key_and_secret() -> None:
    with receiver() as here:
        send(here.url + "hook", secret="s3cr3t", secret_header="X-Token")
    [(path, headers, body)] = here.got
    assert (path, body) == ("/hook", {"a": 1})
    assert (headers["idempotency-key"], headers["x-token"]) == ("rs_1", "s3cr3t")


@pytest.mark.parametrize(("status", "kind"), [(500, Unavailable), (429, Unavailable), (400, Rejected), (404, Rejected)])
def test_who_has_to_move_next(status: int, kind: type[RemitError]) -> None:
    with receiver(status) as here:
        assert isinstance(refused(lambda: send(here.url)), kind)


def test_a_redirect_is_not_followed() -> None:
    with receiver(307) as here:
        assert refused(lambda: send(here.url)).code == "webhook.refused"
    assert [path for path, _, _ in here.got] == ["/"]


def test_a_silent_receiver_ends_in_time() -> None:
    with receiver(wait=30) as here:
        error = refused(lambda: send(here.url, timeout=timedelta(milliseconds=300)))
    assert (error.code, type(error)) == ("webhook.unreachable", Unavailable)


def test_an_endless_answer_is_not_read() -> None:
    with receiver(endless=True) as here:
        send(here.url)


def test_nobody_there() -> None:
    with receiver() as here:
        pass
    assert refused(lambda: send(here.url)).code == "webhook.unreachable"


def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiver() as here, receiver() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        send(here.url)
    assert (len(here.got), proxy.got) == (1, [])


def test_a_document_that_is_too_large_is_not_sent() -> None:
    with receiver() as here:
        assert refused(lambda: send(here.url, {"a": "x" * MAX_BODY})).code == "webhook.too_large"
    assert here.got == []


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "http://localhost/",
        "http://127.0.0.1.example.com/",
        "ftp://127.0.0.1/",
        "https://",
        "https://user:pw@example.com/",
        "https://example.com:99999/",
        "https://example.com/\r\nx: y",
        "",
    ],
)
def test_an_address_that_is_not_safe(url: str) -> None:
    error = refused(lambda: require_address(url))
    assert isinstance(error, Misconfigured)
    assert "pw" not in str(error)


@pytest.mark.parametrize("url", ["https://example.com/x?y=z", "http://127.0.0.1:1/", "http://[::1]:1/"])
def test_an_address_that_is(url: str) -> None:
    assert require_address(url) == url


def test_the_secret_is_nowhere_to_be_read() -> None:
    hook = Webhook("http://127.0.0.1:1/", secret="s3cr3t")
    assert "s3cr3t" not in repr(hook)
    assert "s3cr3t" not in str(refused(lambda: asyncio.run(hook.post({}, key="k"))))


@pytest.mark.parametrize(("secret", "header"), [("a\r\nb", "x"), ("a", "x:y"), ("a", "")])
def test_a_header_cannot_be_smuggled_in(secret: str, header: str) -> None:
    assert isinstance(
        refused(lambda: Webhook("https://x.example/", secret=secret, secret_header=header)), Misconfigured
    )


def certificate(folder: Path) -> tuple[Path, Path]:
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "receiver")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain, private = folder / "cert.pem", folder / "key.pem"
    chain.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return chain, private


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    pair = certificate(tmp_path)
    with receiver(tls=pair) as here:
        assert refused(lambda: send(here.url)).code == "webhook.unreachable"
        assert here.got == []
        send(here.url, ca_file=str(pair[0]))
    assert len(here.got) == 1
