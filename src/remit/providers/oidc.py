"""The keys of an OpenID provider: its metadata and its JWK set, kept for as long as it says.

The address is the operator's word, never a token's. Metadata that names another issuer is refused. While the issuer is
away, the keys that it last published stay good for a bounded time.

Spec: OpenID Connect Discovery 1.0 §4; RFC 8414 §3.3; RFC 7517 §5; RFC 9111 §5.2.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from remit.kernel.canonical import Json
from remit.kernel.clock import Clock
from remit.kernel.errors import Misconfigured, RemitError, Unavailable
from remit.kernel.strict import NotStrict, read_object
from remit.providers.documents import Documents, is_loopback, require_address

MAX_KEYS: Final = 256
MAX_FILE_BYTES: Final = 512 * 1024
FRESH: Final = (timedelta(minutes=1), timedelta(minutes=15), timedelta(hours=24))
"""How long a key set is kept: at least, when the issuer does not say, and at most."""
REFETCH: Final = timedelta(seconds=30)
"""A name that the set does not hold makes us look again, but not more often than this."""
AWAY: Final = timedelta(seconds=5)
"""After a failed try, how long everyone is told so without another."""
STALE: Final = timedelta(hours=24)
"""For how long the last good set serves while the issuer is away, counted from when it was fetched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Set:
    keys: Mapping[str, Mapping[str, Json]]
    fetched: float
    fresh_until: float


class IssuerKeys:
    """The JWK set of one issuer, by its discovery document or by a fixed `jwks_url`.

    Belongs to one event loop. Any number of callers cause at most one fetch at a time.
    """

    def __init__(
        self,
        issuer: str,
        *,
        documents: Documents,
        clock: Clock,
        jwks_url: str = "",
        stale: timedelta = STALE,
    ) -> None:
        """`Misconfigured` (`providers.document.address`, `providers.oidc.issuer`) for a URL that cannot be used."""
        self.issuer = issuer if jwks_url else require_issuer(issuer)
        self._jwks_url = require_address(jwks_url) if jwks_url else ""
        self._documents = documents
        self._clock = clock
        self._stale = stale.total_seconds()
        self._set: _Set | None = None
        self._tried = float("-inf")
        self._away_until = float("-inf")
        self._failed: RemitError | None = None
        self._lock = asyncio.Lock()

    async def find(self, kid: str) -> Mapping[str, Json] | None:
        """The JWK published as `kid`, or `None` when there is none. Looks again for a name that it does not know.

        Raises `Unavailable` (`providers.document.…`, `providers.oidc.…`) when no set that is good can be had.
        """
        if not self._wants_fetch(kid) or (self._lock.locked() and self._set is not None and kid in self._set.keys):
            return self._good().get(kid)
        async with self._lock:
            if self._wants_fetch(kid):
                await self._try()
        return self._good().get(kid)

    def _wants_fetch(self, kid: str) -> bool:
        now = self._clock.monotonic()
        if now < self._away_until:
            return False
        if self._set is None or now >= self._set.fresh_until:
            return True
        return kid not in self._set.keys and now - self._tried >= REFETCH.total_seconds()

    def _good(self) -> Mapping[str, Mapping[str, Json]]:
        """The last set, unless the issuer has been away for too long."""
        if self._set is not None and self._clock.monotonic() < max(
            self._set.fresh_until, self._set.fetched + self._stale
        ):
            return self._set.keys
        # One error is told to many: it does not collect the way to each of them.
        raise (self._failed or _malformed(self.issuer, "no keys")).with_traceback(None)

    async def _try(self) -> None:
        self._tried = self._clock.monotonic()
        try:
            self._set = await self._fetch()
            self._failed = None
        except (Unavailable, Misconfigured) as error:
            # From the end of the try: who waited for a slow issuer does not try it again, one after the other.
            self._failed, self._away_until = error, self._clock.monotonic() + AWAY.total_seconds()

    async def _fetch(self) -> _Set:
        document = await self._documents.get(self._jwks_url or await self._discover())
        now = self._clock.monotonic()
        least, usual, most = FRESH
        age = usual if document.max_age is None else min(max(document.max_age, least), most)
        return _Set(keys=_by_kid(document.content, self.issuer), fetched=now, fresh_until=now + age.total_seconds())

    async def _discover(self) -> str:
        url = self.issuer.rstrip("/") + "/.well-known/openid-configuration"
        metadata = (await self._documents.get(url)).content
        if metadata.get("issuer") != self.issuer:
            raise Unavailable(
                "providers.oidc.mismatch",
                f"the metadata at `{url[:200]}` is of another issuer",
                next_step="configure the issuer exactly as its metadata and its tokens write it",
            )
        found = metadata.get("jwks_uri")
        try:
            address = require_address(found) if isinstance(found, str) else ""
        except Misconfigured:
            address = ""
        # A public issuer has no say on what runs on this machine.
        if not address or (_local(address) and not _local(self.issuer)):
            raise _malformed(self.issuer, "no `jwks_uri` that can be used")
        return address


class KeyFile:
    """A JWK set in a file, for issuers that cannot be reached from here; read again when it changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._keys: Mapping[str, Mapping[str, Json]] = {}

    async def find(self, kid: str) -> Mapping[str, Json] | None:
        """The JWK called `kid`, if it is there; `Unavailable` (`providers.oidc.file`) when the file is not good."""
        return (await asyncio.to_thread(self._read)).get(kid)

    def _read(self) -> Mapping[str, Mapping[str, Json]]:
        try:
            status = self._path.stat()
            seen = (status.st_mtime_ns, status.st_size)
            if seen != self._seen:
                with self._path.open("rb") as file:
                    raw = file.read(MAX_FILE_BYTES + 1)
                content = read_object(raw, max_bytes=MAX_FILE_BYTES, depth=16, members=4096)
                self._keys, self._seen = _by_kid(content, str(self._path)), seen
        except (OSError, NotStrict) as error:
            raise Unavailable(
                "providers.oidc.file",
                f"the key set `{self._path}` cannot be read: {error if isinstance(error, NotStrict) else 'no file'}",
                next_step="write the issuer's JWK set there",
            ) from None
        return self._keys


def require_issuer(issuer: str) -> str:
    """An issuer's identifier: a URL without query or fragment; `Misconfigured` (`providers.oidc.issuer`)."""
    if urlsplit(require_address(issuer)).query or "?" in issuer or "#" in issuer:
        raise Misconfigured(
            "providers.oidc.issuer",
            f"`{issuer[:200]}` is no issuer: it has a query or a fragment",
            next_step="write it as the claim `iss` of its tokens",
        )
    return issuer


def _by_kid(content: Mapping[str, Json], issuer: str) -> Mapping[str, Mapping[str, Json]]:
    """The keys that have a name and are not meant for encryption; a name that stands twice spoils the set."""
    listed = content.get("keys")
    if not isinstance(listed, list) or len(listed) > MAX_KEYS:
        raise _malformed(issuer, f"no list `keys` of at most {MAX_KEYS}")
    found: dict[str, Mapping[str, Json]] = {}
    for entry in listed:
        if not isinstance(entry, Mapping) or entry.get("use", "sig") != "sig":
            continue
        kid = entry.get("kid")
        if not isinstance(kid, str) or not kid:
            continue
        if kid in found:
            raise _malformed(issuer, "two keys of one name")
        found[kid] = entry
    return found


def _local(url: str) -> bool:
    return is_loopback(urlsplit(url).hostname or "")


def _malformed(issuer: str, why: str) -> Unavailable:
    return Unavailable(
        "providers.oidc.malformed",
        f"the key set of `{issuer[:200]}` cannot be used: it has {why}",
        next_step="look at what the issuer publishes",
        retry_after=timedelta(minutes=5),
    )
