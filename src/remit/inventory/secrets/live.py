"""Is it still good? Tried only when that was asked for, and only at endpoints that were declared for its kind.

A secret never goes to a server that a scanned file names: a DSN is tried where its host and port are declared.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from types import MappingProxyType
from urllib.parse import urlsplit

from remit.inventory.secrets.binding import Binding
from remit.inventory.secrets.found import Verdict
from remit.inventory.secrets.model import Hit
from remit.kernel.errors import Rejected, RemitError
from remit.providers import http_try

KINDS = ("github", "gitlab", "slack", "bearer", "aws", "postgres", "redis")
MAX_ATTEMPTS = 200
"""Of one worker: a repository of test keys must not become an attack on an issuer."""


def parse_endpoints(given: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
    """Read `KIND=URL` pairs. Raises `Rejected` (`inventory.verify.endpoint`, `providers.try.endpoint`)."""
    found: dict[str, tuple[str, ...]] = {}
    for each in given:
        kind, _, url = each.partition("=")
        is_login = kind in ("postgres", "redis")
        if kind not in KINDS or not _host(url) or is_login == url.startswith("http"):
            raise Rejected(
                "inventory.verify.endpoint",
                "an endpoint is not written as KIND=URL",
                next_step=f"KIND is {', '.join(KINDS)}: --verify-endpoint github=https://api.github.com",
            )
        if not is_login:
            http_try.endpoint(url)
        found[kind] = (*found.get(kind, ()), url.rstrip("/"))
    return MappingProxyType(found)


def _host(url: str) -> str:
    """The host of a URL whose port is one; empty for what is none."""
    try:
        split = urlsplit(url)
        return (split.hostname or "") if split.port is None or split.port else ""
    except ValueError:
        return ""


class Checks:
    """Tries secrets, each value once."""

    def __init__(self, endpoints: Mapping[str, tuple[str, ...]], *, clock: Callable[[], datetime]) -> None:
        self._endpoints = endpoints
        self._clock = clock
        self._known: dict[tuple[str, bytes], Verdict | None] = {}

    def __call__(self, hit: Hit, binding: Binding) -> Verdict | None:
        secret = binding.secret or hit.value
        key = (binding.public or binding.provider, secret)
        if key not in self._known:
            if len(self._known) >= MAX_ATTEMPTS:
                return Verdict(state="unknown", detail="too many to be tried")
            self._known[key] = self._try(binding, secret)
        return self._known[key]

    def _try(self, binding: Binding, secret: bytes) -> Verdict | None:
        provider = binding.provider
        value = secret.decode("utf-8", "replace")
        if provider == "aws" and binding.companion and (urls := self._endpoints.get("aws")):
            return _aws(
                urls[0],
                str(binding.attributes.get("access_key_id", "")),
                binding.companion.decode("latin-1"),
                self._clock(),
            )
        if provider in ("postgres", "redis"):
            return self._login(provider, binding, value)
        kind = provider if provider in ("github", "gitlab", "slack") else "bearer" if _is_token(binding, value) else ""
        urls = self._endpoints.get(kind, ()) if kind else ()
        return _TRIES[kind](urls[0], value) if urls and _sendable(value) else None

    def _login(self, system: str, binding: Binding, secret: str) -> Verdict | None:
        about = binding.attributes
        for url in self._endpoints.get(system, ()):
            split = urlsplit(url)
            port = split.port or {"postgres": 5432, "redis": 6379}[system]
            if (split.hostname, str(port)) == (about.get("host"), about.get("port")):
                user, database = str(about.get("user", "")), str(about.get("database", ""))
                return _login(system, split.hostname or "", port, user, database, secret, url)
        return None


def _is_token(binding: Binding, value: str) -> bool:
    return binding.provider in ("jwt", "") and bool(re.fullmatch(r"[\w.~+/=-]{16,4000}", value))


def _sendable(value: str) -> bool:
    return bool(re.fullmatch(r"[\x21-\x7e]{1,8000}", value))


def _by_status(answer: http_try.Answer, detail: str = "") -> Verdict:
    if 200 <= answer.status < 300:
        return Verdict(state="live", detail=detail)
    if answer.status in (401, 403):
        return Verdict(state="refused", detail=f"status {answer.status}")
    return Verdict(state="unknown", detail=answer.error or f"status {answer.status}")


def _json(answer: http_try.Answer) -> Mapping[str, object]:
    try:
        value = json.loads(answer.body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


_AGENT = {"User-Agent": "remit", "Accept": "application/json"}


def _github(url: str, token: str) -> Verdict:
    answer = http_try.ask("GET", f"{url}/user", {**_AGENT, "Authorization": f"Bearer {token}"})
    return _by_status(answer, f"as {_json(answer).get('login', '')}"[:100])


def _gitlab(url: str, token: str) -> Verdict:
    answer = http_try.ask("GET", f"{url}/api/v4/user", {**_AGENT, "PRIVATE-TOKEN": token})
    return _by_status(answer, f"as {_json(answer).get('username', '')}"[:100])


def _slack(url: str, token: str) -> Verdict:
    answer = http_try.ask("POST", f"{url}/auth.test", {**_AGENT, "Authorization": f"Bearer {token}"}, b"")
    body = _json(answer)
    if answer.status == 200 and body.get("ok") is False:
        return Verdict(state="refused", detail=str(body.get("error", ""))[:100])
    return _by_status(answer, f"as {body.get('user', '')} of {body.get('team', '')}"[:100])


def _bearer(url: str, token: str) -> Verdict:
    return _by_status(http_try.ask("GET", url, {**_AGENT, "Authorization": f"Bearer {token}"}))


def _aws(url: str, key_id: str, secret: str, now: datetime) -> Verdict:
    from remit.providers.aws.query import Keys, sign

    if not key_id.startswith("AKIA"):
        return Verdict(state="unknown", detail="a temporary key needs its session token")
    body = b"Action=GetCallerIdentity&Version=2011-06-15"
    headers = {"content-type": "application/x-www-form-urlencoded"}
    keys = Keys(id=key_id, secret=secret)
    signed = sign(f"{url}/", body, keys=keys, service="sts", region="us-east-1", at=now, headers=headers)
    answer = http_try.ask("POST", f"{url}/", signed, body)
    code = re.search(rb"<Code>([A-Za-z.]{1,80})</Code>", answer.body)
    if answer.status == 403 and code is not None:
        # A clock that is wrong is refused as well, and a request that was altered: only these are of the key.
        gone = code.group(1) in (b"InvalidClientTokenId", b"SignatureDoesNotMatch", b"ExpiredToken")
        return Verdict(state="refused" if gone else "unknown", detail=code.group(1).decode())
    arn = re.search(rb"<Arn>(arn:aws[\w:./@=,+-]{1,300})</Arn>", answer.body)
    return _by_status(answer, f"as {arn.group(1).decode()}" if arn else "")


def _login(system: str, host: str, port: int, user: str, database: str, secret: str, url: str) -> Verdict:
    try:
        if system == "redis":
            return asyncio.run(_redis(host, port, user, secret, tls=url.startswith("rediss:")))
        return asyncio.run(_postgres(host, port, user, database, secret, url))
    except (RemitError, OSError) as error:
        return Verdict(state="unknown", detail=getattr(error, "code", type(error).__name__))


async def _redis(host: str, port: int, user: str, secret: str, *, tls: bool) -> Verdict:
    from remit.providers.redis.client import Address, login

    said = await login(Address(host=host, port=port, user=user or "default", tls=tls), secret)
    if said.anonymous:
        return Verdict(state="unknown", detail="the server serves everybody")
    return Verdict(state="live" if said.admitted else "refused", detail=said.words[:100] if not said.admitted else "")


async def _postgres(host: str, port: int, user: str, database: str, secret: str, url: str) -> Verdict:
    from remit.providers.postgres.address import Address
    from remit.providers.postgres.login import Admitted, Refused, login

    mode = "disable" if "sslmode=disable" in url else ""
    said = await login(Address(host=host, port=port, user=user, database=database or user, ssl_mode=mode), secret)
    if isinstance(said, Admitted):
        return Verdict(
            state="live" if said.asked else "unknown", detail="" if said.asked else "no password was asked for"
        )
    if isinstance(said, Refused) and said.is_authentication:
        return Verdict(state="refused", detail=said.sqlstate)
    return Verdict(state="unknown", detail="no answer that says anything of the password")


_TRIES: Mapping[str, Callable[[str, str], Verdict]] = {
    "github": _github, "gitlab": _gitlab, "slack": _slack, "bearer": _bearer,
}  # fmt: skip
