"""Is this token good here? The check of an OAuth resource server, offline but for keys and status lists.

    1  an `at+jwt` of our issuer, signed by a key of its JWK set, in time, for this audience
    2  bound tokens: the certificate of the connection (RFC 8705), a DPoP proof that was never seen (RFC 9449)
    3  its place in the status list is not revoked; a list that cannot be had in time refuses it

Keys and lists are fetched from the issuer alone, whatever a token says; each is kept for as long as it says, and asked
for again at most every few seconds, however many unknown keys are shown. With `introspect`, the issuer is asked about
each token besides (RFC 7662).

Spec: RFC 9068 §4, RFC 7662, RFC 8705 §3, RFC 9449 §7, draft-ietf-oauth-status-list §8.3.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from remit.kernel.canonical import Json
from remit.kernel.errors import Rejected, Unavailable
from remit.trust import jose
from remit.trust.tokens.dpop import Shown, verify_dpop
from remit.trust.tokens.keys import PROFILES
from remit.trust.tokens.model import Confirmation, TokenKind
from remit.trust.tokens.present import actors_of
from remit.trust.tokens.replay import ReplayWindow

Fetch = Callable[[str], bytes]
"""Gets a document by its URL, in bounded time and size. Raises `Unavailable`."""
Introspect = Callable[[str], Mapping[str, Any]]
_STATUS: Final = jose.Profile(
    algorithms=frozenset({"ES256"}), types=frozenset({"statuslist+jwt"}), required=frozenset({"sub", "iat", "exp"})
)
_KEYS_SECONDS, _AGAIN_SECONDS = 300.0, 5.0
_MAX_DOCUMENT: Final = 1 << 20
_MAX_LIST: Final = 1 << 22
_MAX_LISTS: Final = 64
_FETCH_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Presented:
    """What a request shows of its sender, besides the token."""

    scheme: str
    """`bearer` or `dpop`, in lower case."""
    method: str
    url: str
    """Without its query."""
    dpop: tuple[str, ...] = field(default=(), repr=False)
    x5t: str = ""
    """`x5t#S256` of the certificate that the connection proved; empty without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bearer:
    """Whom a good token names, and what it says."""

    subject: str
    scopes: frozenset[str]
    claims: Mapping[str, Json] = field(repr=False)

    @property
    def facts(self) -> dict[str, Json]:
        """As a decision point takes them (`context.proven`)."""
        claims = self.claims
        confirmation = Confirmation.of(claims).kind
        return {
            "credential": str(claims["jti"]),
            "client": str(claims["client_id"]),
            "scope": " ".join(sorted(self.scopes)),
            "actors": list(actors_of(claims)),
            **({"sender_constraint": confirmation} if confirmation else {}),
        }


class ResourceServer:
    """Verifies access tokens of one issuer. For many threads."""

    def __init__(
        self,
        issuer: str,
        *,
        keys: str = "",
        fetch: Fetch | None = None,
        introspect: Introspect | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._issuer = issuer.rstrip("/")
        self._keys_url = keys or f"{self._issuer}/oauth2/keys"
        self._fetch = fetch or fetch_https
        self._introspect = introspect
        self._clock = clock
        self._lock = threading.Lock()
        self._window = ReplayWindow()
        self._keys: Mapping[str, jose.Key] = {}
        self._keys_at = float("-inf")
        self._lists: dict[str, tuple[float, bytes]] = {}

    def verify(self, token: str, shown: Presented, *, audience: str, scope: str = "") -> Bearer:
        """Whom the token names.

        Raises `Rejected` (`client.token.invalid`, `client.token.scope`, `trust.jose.…`, `trust.dpop.…`,
        `trust.token.sender`, `trust.token.replayed`), `Unavailable` when keys or a status list cannot be had.
        """
        now = self._clock()
        unverified = jose.read(token, PROFILES[TokenKind.ACCESS])
        key = self._key(unverified.kid)
        found = jose.verify(
            unverified, key, PROFILES[TokenKind.ACCESS], now=now, issuer=self._issuer, audience=audience
        )
        self._require_possession(token, found.claims, shown, now)
        self._require_standing(token, found.claims, now)
        scopes = frozenset(str(found.claims.get("scope", "")).split(" ")) - {""}
        if scope and scope not in scopes:
            raise Rejected("client.token.scope", f"the access token has not the scope `{scope[:80]}`")
        return Bearer(subject=str(found.claims["sub"]), scopes=scopes, claims=found.claims)

    def _require_possession(self, token: str, claims: Mapping[str, Json], shown: Presented, now: datetime) -> None:
        bound = Confirmation.of(claims)
        if (shown.scheme == "dpop") != bool(bound.jkt) or len(shown.dpop) > 1:
            raise _invalid("it came by another scheme than its own")
        proof: Shown | None = None
        if shown.dpop:
            proof = verify_dpop(shown.dpop[0], method=shown.method, urls=(shown.url,), now=now, token=token)
        held = Confirmation(x5t=shown.x5t, jkt=proof.thumbprint if proof is not None else "")
        if not bound.met_by(held):
            raise Rejected(
                "trust.token.sender", f"the token is bound to a key that its sender did not prove ({bound.kind})"
            )
        if proof is not None:
            with self._lock:
                self._window.take([proof.spend], now)

    def _require_standing(self, token: str, claims: Mapping[str, Json], now: datetime) -> None:
        if self._introspect is not None and self._introspect(token).get("active") is not True:
            raise _invalid("its issuer says that it is not active")
        status = claims.get("status")
        place = status.get("status_list") if isinstance(status, Mapping) else None
        if place is None:
            return
        index, uri = (place.get("idx"), place.get("uri")) if isinstance(place, Mapping) else (None, None)
        if type(index) is not int or type(uri) is not str or not self._is_ours(uri):
            raise _invalid("its status is none")
        bits = self._status(uri, now)
        if not 0 <= index < 8 * len(bits) or bits[index >> 3] >> (index & 7) & 1:
            raise _invalid("it was revoked")

    def _is_ours(self, uri: str) -> bool:
        return urlsplit(uri)[:2] == urlsplit(self._keys_url)[:2]

    # What is fetched, and kept.

    def _key(self, kid: str) -> jose.Key:
        with self._lock:
            age = time.monotonic() - self._keys_at
            if age > _KEYS_SECONDS or (kid not in self._keys and age > _AGAIN_SECONDS):
                self._keys = _read_keys(self._fetch(self._keys_url))
                self._keys_at = time.monotonic()
            found = self._keys.get(kid)
        if found is None:
            raise _invalid("it is signed by no key of its issuer")
        return found

    def _status(self, uri: str, now: datetime) -> bytes:
        with self._lock:
            known = self._lists.get(uri)
        if known is not None and time.monotonic() < known[0]:
            return known[1]
        text = self._fetch(uri).decode("ascii", "replace").strip()
        unverified = jose.read(text, _STATUS)
        found = jose.verify(unverified, self._key(unverified.kid), _STATUS, now=now, issuer=None, audience=None)
        if found.claims.get("sub") != uri:
            raise Unavailable("client.token.status", "the status list is another one than that which was asked for")
        bits, ttl = _read_list(found.claims)
        with self._lock:
            if len(self._lists) >= _MAX_LISTS:
                self._lists.clear()
            self._lists[uri] = (time.monotonic() + ttl, bits)
        return bits


def fetch_https(url: str) -> bytes:
    """Get a document over https, or http on loopback. `Unavailable` (`client.token.fetch`)."""
    import http.client

    parts = urlsplit(url)
    local = parts.hostname in ("127.0.0.1", "::1", "localhost")
    if not parts.hostname or (parts.scheme != "https" and not (parts.scheme == "http" and local)):
        raise Unavailable("client.token.fetch", f"`{url[:200]}` is not fetched: only https is, and http on loopback")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=_FETCH_SECONDS)
    try:
        connection.request("GET", parts.path or "/")
        response = connection.getresponse()
        raw = response.read(_MAX_DOCUMENT + 1)
        if response.status != 200 or len(raw) > _MAX_DOCUMENT:
            raise Unavailable("client.token.fetch", f"`{url[:200]}` was answered with status {response.status}")
        return raw
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable("client.token.fetch", f"`{url[:200]}` does not answer: {type(error).__name__}") from None
    finally:
        connection.close()


def _read_keys(raw: bytes) -> dict[str, jose.Key]:
    try:
        entries = msgspec.json.decode(raw)["keys"]
        wanted = [one for one in entries if one.get("use", "sig") == "sig" and one.get("kid")]
        return {str(one["kid"]): jose.key_of_jwk(one) for one in wanted}
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError, Rejected):
        raise Unavailable("client.token.keys", "the issuer's keys cannot be read") from None


def _read_list(claims: Mapping[str, Json]) -> tuple[bytes, float]:
    status = claims.get("status_list")
    try:
        assert isinstance(status, Mapping)
        packed = jose.decode_base64url(str(status["lst"]).encode())
        inflating = zlib.decompressobj()
        bits = inflating.decompress(packed, _MAX_LIST)
        if status.get("bits") != 1 or not inflating.eof:
            raise ValueError
    except (AssertionError, KeyError, ValueError, zlib.error, Rejected):
        raise Unavailable("client.token.status", "the status list cannot be read") from None
    ttl = claims.get("ttl")
    seconds = float(ttl) if isinstance(ttl, int) and not isinstance(ttl, bool) else 60.0
    return bits, min(max(seconds, 1.0), timedelta(minutes=10).total_seconds())


def _invalid(why: str) -> Rejected:
    return Rejected("client.token.invalid", f"the access token does not count: {why}", next_step="get a new one")
