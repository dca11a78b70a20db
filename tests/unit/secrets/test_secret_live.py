"""A secret is tried once, where its kind was declared, and nowhere else; what the endpoint says is understood."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from remit.inventory.model import CredentialKind
from remit.inventory.secrets.binding import bind
from remit.inventory.secrets.found import Verdict
from remit.inventory.secrets.live import Checks, parse_endpoints
from remit.inventory.secrets.model import Blob, Hit
from remit.kernel.errors import Rejected
from remit.providers.aws.query import Keys, sign

NOW = datetime(2026, 11, 23, tzinfo=UTC)
GITLAB = "glpat-" + "Ab1Cd2Ef3Gh4Ij5Kl6Mn"
SLACK = "xoxb-" + "123456789012-987654321098-AbCdEfGhIjKlMnOpQrStUvWx"
AWS = "kZ8vQ2mN5xT1pL7wR4cY9bJ3hD6gF0sA2eU8iO5q"


@dataclass
class Endpoint:
    """A server that answers `status` and `body`, and remembers what it was asked."""

    url: str = ""
    status: int = 200
    body: bytes = b"{}"
    seen: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)


@contextmanager
def endpoint(status: int = 200, body: bytes = b"{}", **headers: str) -> Iterator[Endpoint]:
    made = Endpoint(status=status, body=body)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = {key.lower(): text for key, text in self.headers.items()}
            made.seen.append((self.command, self.path, given, self.rfile.read(int(given.get("content-length", 0)))))
            self.send_response(made.status)
            for key, text in headers.items():
                self.send_header(key, text)
            self.end_headers()
            self.wfile.write(made.body)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()


def tried(value: str, declared: str, *, text: str = "{}", checks: Checks | None = None, **given: Any) -> Verdict | None:
    data = text.replace("{}", value).encode()
    start = data.find(value.encode())
    about = {"rule": "x", "title": "x", "kind": CredentialKind.PASSWORD, "confidence": 90, "line": 1} | given
    hit = Hit(value=value.encode(), start=start, end=start + len(value), **about)
    checks = checks or Checks(parse_endpoints([declared]), clock=lambda: NOW)
    return checks(hit, bind(hit, Blob(path="x", data=data)))


def test_gitlab_is_asked_who_it_is() -> None:
    with endpoint(body=b'{"username": "bot"}') as at:
        assert tried(GITLAB, f"gitlab={at.url}") == Verdict(state="live", detail="as bot")
    ((_, path, headers, _),) = at.seen
    assert (path, headers["private-token"]) == ("/api/v4/user", GITLAB)


def test_slack_says_no_with_status_200() -> None:
    with endpoint(body=b'{"ok": false, "error": "token_revoked"}') as at:
        assert tried(SLACK, f"slack={at.url}") == Verdict(state="refused", detail="token_revoked")


def test_a_redirect_is_not_followed_and_says_nothing() -> None:
    with endpoint() as other, endpoint(302, Location=other.url) as at:
        verdict = tried(GITLAB, f"gitlab={at.url}")
    assert verdict == Verdict(state="unknown", detail="status 302") and other.seen == []


def test_nobody_there_says_nothing() -> None:
    assert tried(GITLAB, "gitlab=http://127.0.0.1:1") == Verdict(state="unknown", detail="ConnectionRefusedError")


def test_a_token_of_another_kind_is_not_sent() -> None:
    with endpoint() as at:
        assert tried(SLACK, f"gitlab={at.url}") is None and at.seen == []


def test_a_value_is_tried_once() -> None:
    with endpoint() as at:
        checks = Checks(parse_endpoints([f"gitlab={at.url}"]), clock=lambda: NOW)
        assert tried(GITLAB, "", checks=checks) == tried(GITLAB, "", checks=checks, text="again {}")
    assert len(at.seen) == 1


def test_an_aws_key_is_signed_with_and_never_sent() -> None:
    said = b"<R><Arn>arn:aws:iam::609629065308:user/ci</Arn></R>"
    with endpoint(body=said) as at:
        text = "AKIAY34FZKBOKMUTVV7A\naws_secret_access_key={}"
        verdict = tried(AWS, f"aws={at.url}", text=text, variable="aws_secret_access_key")
    assert verdict == Verdict(state="live", detail="as arn:aws:iam::609629065308:user/ci")
    ((_, _, headers, body),) = at.seen
    keys = Keys(id="AKIAY34FZKBOKMUTVV7A", secret=AWS)
    type_ = {"content-type": headers["content-type"]}
    expected = sign(f"{at.url}/", body, keys=keys, service="sts", region="us-east-1", at=NOW, headers=type_)
    assert headers["authorization"] == expected["authorization"]
    assert AWS not in str(headers) and AWS.encode() not in body


def test_a_password_goes_to_no_host_that_only_the_file_names() -> None:
    assert (
        tried("Zq4kV9sT2mXw7", "postgres=postgres://db.acme:5432", text="postgres://u:{}@evil.example:5432/x") is None
    )


@pytest.mark.parametrize(
    "given", ["github", "github=", "strange=https://a.b", "github=http://a.b", "github=ftp://a.b", "redis=https://a.b"]
)
def test_an_endpoint_that_is_none_is_refused(given: str) -> None:
    with pytest.raises(Rejected):
        parse_endpoints([given])
