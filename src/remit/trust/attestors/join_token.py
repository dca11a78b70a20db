"""The attestor `join_token`: a secret that an administrator made for one machine, and that joins one machine once.

It proves nothing about the machine but that somebody gave it the secret: prefer any other attestor where there is one.
A token carries authority, so it is signed when it is made and counts only while the signature verifies.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol

from remit.kernel.canonical import Json
from remit.kernel.clock import rfc3339
from remit.kernel.errors import NotFound, Rejected
from remit.kernel.ids import is_id
from remit.kernel.unit import Attester, Store, Unit
from remit.trust.attestors import payload as shown
from remit.trust.attestors.payload import expired, malformed, untrusted
from remit.trust.model import Evidence, Selector

KIND = "join_token"
SIGNED_AS = "trust.join_token"
DEFAULT_TTL = timedelta(minutes=10)
SHORTEST, LONGEST = timedelta(seconds=30), timedelta(days=7)
KEPT_AFTER_EXPIRY = timedelta(days=7)
"""So long its row says whether it was spent."""
MAX_LABELS = 16
_SECRET_BYTES = 32
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/=-]{0,127}")
_SECRET = re.compile(r"(jt_[0-9A-Z]{26})\.([A-Za-z0-9_-]{43})")
_KEYS = {
    "name": "the name that the administrator gave the token, 1 to 128 of A-Z, a-z, 0-9, `.`, `_`, `/`, `=`, `-`",
    "label": "a label that the administrator gave the token, of the same form, for example `rack=7`",
    "id": "the token's own id, `jt_…`",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinToken:
    """One token, without its secret. It counts only while `signature` verifies."""

    id: str
    name: str
    labels: tuple[str, ...] = ()
    digest: str = field(repr=False)
    """SHA-256 of the secret, in hexadecimal."""
    created: datetime
    expires: datetime
    spent: datetime | None = None
    signature: str = field(default="", repr=False)

    def as_json(self) -> dict[str, Json]:
        """What its signature covers: everything but the signature and whether it was spent."""
        return {
            "id": self.id,
            "name": self.name,
            "labels": list(self.labels),
            "digest": self.digest,
            "created": rfc3339(self.created),
            "expires": rfc3339(self.expires),
        }


class JoinTokenRows(Protocol):
    """The rows of one unit of work, by id."""

    def add(self, token: JoinToken) -> None: ...

    def get(self, token_id: str) -> JoinToken | None: ...

    def spend(self, token_id: str, at: datetime) -> bool:
        """Note that it was spent; tells whether it was not before. Of several units at once one is told so."""
        ...

    def list(self, *, after: str = "", limit: int = 1000) -> Sequence[JoinToken]:
        """At most `limit` tokens whose id is greater than `after`."""
        ...

    def remove(self, token_id: str) -> bool: ...

    def forget(self, before: datetime, *, limit: int = 1000) -> int:
        """Delete at most `limit` that expired before this moment, spent or not; returns how many."""
        ...


class JoinTokenUnit(Unit, Protocol):
    """A unit of work with the rows of join tokens."""

    @property
    def join_tokens(self) -> JoinTokenRows: ...


class JoinTokens:
    """Makes, spends and withdraws join tokens, each in a unit of work, each in the ledger."""

    def __init__(self, attester: Attester, *, random: Callable[[int], bytes] = secrets.token_bytes) -> None:
        self._attester = attester
        self._random = random

    def create(
        self, unit: JoinTokenUnit, *, name: str, actor: str, ttl: timedelta = DEFAULT_TTL, labels: Collection[str] = ()
    ) -> tuple[JoinToken, str]:
        """Make a token; the second value is the secret that joins, told this once and kept nowhere.

        Lifetimes of 30 seconds to 7 days. Raises `Rejected` (`trust.join_token.name`, `.lifetime`).
        """
        _check_request(name, ttl, labels)
        token_id = unit.new_id("jt")
        secret = f"{token_id}.{urlsafe_b64encode(self._random(_SECRET_BYTES)).rstrip(b'=').decode()}"
        token = JoinToken(
            id=token_id,
            name=name,
            labels=tuple(sorted(set(labels))),
            digest=_digest(secret),
            created=unit.now,
            expires=unit.now + ttl,
        )
        token = replace(token, signature=self._attester.sign(SIGNED_AS, token.as_json()))
        unit.join_tokens.forget(unit.now - KEPT_AFTER_EXPIRY)
        unit.join_tokens.add(token)
        unit.record("trust.join_token.created", actor=actor, subject=token.id, data=_public(token))
        return token, secret

    def find(self, unit: JoinTokenUnit, secret: str, now: datetime) -> JoinToken:
        """The token that this secret would spend `now`; nothing is changed.

        Raises `Rejected` (`trust.proof.malformed`, `.untrusted`, `.expired`, `.replayed`).
        """
        form = _SECRET.fullmatch(secret)
        if form is None:
            raise malformed("`token` is no join token")
        token = unit.join_tokens.get(form[1])
        # The same time and the same words, whether the id or the secret is wrong.
        known = hmac.compare_digest(_digest(secret), token.digest if token is not None else "0" * 64)
        if token is None or not known:
            raise untrusted("no such join token was made here")
        if token.spent is not None:
            raise _spent()
        if now >= token.expires:
            raise expired("the join token has expired")
        if not self._attester.verify(SIGNED_AS, token.as_json(), token.signature):
            raise untrusted("the join token was not made here, or was spent or withdrawn")
        return token

    def spend(self, unit: JoinTokenUnit, secret: str, now: datetime) -> JoinToken:
        """Use it up: of any number of callers at once, one succeeds. Raises as `find`."""
        token = self.find(unit, secret, now)
        if not unit.join_tokens.spend(token.id, now):
            raise _spent()
        data: dict[str, Json] = {"id": token.id, "name": token.name}
        unit.record("trust.join_token.spent", actor="system:join_token", subject=token.id, data=data)
        return replace(token, spent=now)

    def remove(self, unit: JoinTokenUnit, token_id: str, *, actor: str) -> JoinToken:
        """Withdraw a token; `NotFound` (`trust.join_token.unknown`)."""
        token = unit.join_tokens.get(token_id) if is_id("jt", token_id) else None
        if token is None:
            raise NotFound(
                "trust.join_token.unknown",
                f"no join token is called `{token_id[:80]}`",
                next_step="list them by `remit agent tokens`",
            )
        unit.join_tokens.remove(token.id)
        data: dict[str, Json] = {"id": token.id, "name": token.name}
        unit.record("trust.join_token.removed", actor=actor, subject=token.id, data=data)
        return token


class JoinTokenAttestor:
    """Believes each token of `tokens` once."""

    id = KIND
    keys: Mapping[str, str] = _KEYS

    def __init__(self, store: Store[JoinTokenUnit], tokens: JoinTokens) -> None:
        self._store = store
        self._tokens = tokens

    def check(self, selector: Selector) -> None:
        """Refuse a selector that no token could give."""
        shown.check_selector(
            selector, KIND, _KEYS, {"name": _NAME, "label": _NAME, "id": re.compile(r"jt_[0-9A-Z]{26}")}
        )

    async def begin(self, payload: Mapping[str, Json], now: datetime) -> Evidence:
        """`payload` is `{"token"}`; the token is spent when this returns.

        Raises `Rejected` (`trust.proof.malformed`, `.untrusted`, `.expired`, `.replayed`).
        """
        shown.only(payload, ("token",))
        secret = shown.text(payload, "token", most=128)
        # Reading costs little: only who holds a secret that counts gets to write.
        await self._store.read(lambda unit: self._tokens.find(unit, secret, now))
        token = await self._store.write(lambda unit: self._tokens.spend(unit, secret, now))
        found = [("name", token.name), ("id", token.id), *(("label", one) for one in token.labels)]
        return Evidence(
            attestor=KIND,
            selectors=frozenset(Selector(KIND, key, value) for key, value in found),
            facts={"token": token.id, "name": token.name, "node": token.name},
            observed=now,
        )

    async def finish(self, challenge: object, answer: Mapping[str, Json], now: datetime) -> Evidence:
        """A token says everything at once: there is nothing to answer."""
        raise malformed("a join token answers no question")


def _public(token: JoinToken) -> dict[str, Json]:
    """What the ledger tells: everything but the digest and the signature."""
    return {name: value for name, value in token.as_json().items() if name != "digest"}


def _check_request(name: str, ttl: timedelta, labels: Collection[str]) -> None:
    if _NAME.fullmatch(name) is None or len(labels) > MAX_LABELS or not all(map(_NAME.fullmatch, labels)):
        raise Rejected(
            "trust.join_token.name",
            "a name or label of the join token is not 1 to 128 of A-Z, a-z, 0-9, `.`, `_`, `/`, `=`, `-`",
            next_step=f"name the machine that it is for; at most {MAX_LABELS} labels",
        )
    if not SHORTEST <= ttl <= LONGEST:
        raise Rejected(
            "trust.join_token.lifetime",
            "a join token lives for 30 seconds to 7 days",
            next_step="give another lifetime",
        )


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _spent() -> Rejected:
    return Rejected(
        "trust.proof.replayed",
        "this join token was used before",
        next_step="if that was not you, ban the agent that joined by it; make another token",
    )
