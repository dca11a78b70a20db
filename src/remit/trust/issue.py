"""Issue SVIDs: every one is in the ledger, durably, before it leaves the process.

Commits are grouped: what is issued while one write runs goes into the next, so that a burst costs a few transactions.
An X.509-SVID is kept until half of its life for the same process and entry, so that a workload that connects again
and again gets the same one and the ledger does not grow by its loop.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.asymmetric import ec

from remit.kernel.canonical import Json
from remit.kernel.clock import Clock, rfc3339
from remit.kernel.errors import Unavailable
from remit.kernel.unit import Store
from remit.trust.authority.keeper import Keyring
from remit.trust.authority.x509 import BACKDATED, private_bytes, serial_number
from remit.trust.model import Authority, AuthorityState, Entry, Evidence, JwtSvid, X509Svid
from remit.trust.ports import TrustUnit

MAX_PENDING = 10_000
MAX_BATCH = 500
_USABLE = (AuthorityState.ACTIVE, AuthorityState.OLD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuance:
    """What the ledger says of one SVID."""

    kind: str
    serial: str
    """The certificate's serial in hexadecimal, or the token's `jti`."""
    entry: Entry
    authority: str
    evidence: Evidence
    expires: datetime
    audience: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Json]:
        return {
            "kind": self.kind,
            "serial": self.serial,
            "spiffe_id": str(self.entry.spiffe_id),
            "entry": self.entry.id,
            "authority": self.authority,
            "evidence": self.evidence.digest,
            "facts": dict(self.evidence.facts),
            "expires": rfc3339(self.expires),
            "audience": list(self.audience),
        }

    @property
    def subject(self) -> str:
        return self.entry.identity or str(self.entry.spiffe_id)


class Journal:
    """Writes issuances to the ledger in groups."""

    def __init__(self, store: Store[TrustUnit]) -> None:
        self._store = store
        self._pending: list[tuple[Sequence[Issuance], asyncio.Future[None]]] = []
        self._size = 0
        self._writer: asyncio.Task[None] | None = None

    async def commit(self, issuances: Sequence[Issuance]) -> None:
        """Return when these are durable. Raises what the store raises; then nothing may be handed out.

        `Unavailable` (`trust.svid.flooded`) when too many wait already.
        """
        if self._size + len(issuances) > MAX_PENDING:
            raise Unavailable("trust.svid.flooded", "too many SVIDs are being issued", retry_after=timedelta(seconds=1))
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append((issuances, done))
        self._size += len(issuances)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._drain())
        # The writer is a task of its own: a caller that goes away leaves the others' group as it is.
        await done

    async def close(self) -> None:
        """Wait until everything that was accepted is written."""
        if self._writer is not None:
            await self._writer

    async def _drain(self) -> None:
        while self._pending:
            group = self._take()
            work = _recorder([issuance for issuances, _ in group for issuance in issuances])
            try:
                await self._store.write(work)
            except Exception as error:  # supervisor: whatever it is, it is each waiting caller's answer
                for _, done in group:
                    if not done.cancelled():
                        done.set_exception(error)
                        done.exception()
            else:
                for _, done in group:
                    if not done.cancelled():
                        done.set_result(None)

    def _take(self) -> list[tuple[Sequence[Issuance], asyncio.Future[None]]]:
        group, size = [], 0
        while self._pending and size < MAX_BATCH:
            one = self._pending.pop(0)
            size += len(one[0])
            group.append(one)
        self._size -= size
        return group


def _recorder(issuances: Sequence[Issuance]) -> Callable[[TrustUnit], None]:
    def work(unit: TrustUnit) -> None:
        for one in issuances:
            unit.record("trust.svid.issued", actor="system:trust", subject=one.subject, data=one.as_json())
            _note_binary(unit, one)

    return work


def _note_binary(unit: TrustUnit, issuance: Issuance) -> None:
    """Say so when the executable at this path is not the one that this entry was given to before."""
    path, sha256 = issuance.evidence.value("path"), issuance.evidence.value("sha256")
    if path is None or sha256 is None:
        return
    before = unit.trust.note_binary(issuance.entry.id, path, sha256, unit.now)
    if before is None or before == sha256:
        return
    data: dict[str, Json] = {
        "spiffe_id": str(issuance.entry.spiffe_id),
        "entry": issuance.entry.id,
        "path": path,
        "before": before,
        "now": sha256,
        "evidence": issuance.evidence.digest,
        "facts": dict(issuance.evidence.facts),
    }
    unit.record("trust.binary.changed", actor="system:trust", subject=issuance.subject, data=data)


class Issuer:
    """Signs SVIDs for entries that evidence matched, with the keys that `keyring()` holds at that moment."""

    def __init__(
        self,
        journal: Journal,
        keyring: Callable[[], Keyring],
        clock: Clock,
        *,
        remembered: int = 8192,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._journal = journal
        self._keyring = keyring
        self._clock = clock
        self._remembered = remembered
        self._entropy = entropy
        self._svids: OrderedDict[tuple[str, str], X509Svid] = OrderedDict()

    async def x509(self, entries: Sequence[Entry], evidence: Evidence) -> tuple[X509Svid, ...]:
        """An X.509-SVID with a key of its own for each entry, fresh ones remembered; durable when this returns."""
        proof = evidence.digest
        kept = {entry.id: self._fresh(proof, entry) for entry in entries}
        made = {entry.id: self._sign_x509(entry) for entry in entries if kept[entry.id] is None}
        if made:
            await self._journal.commit(
                [_x509_issuance(made[entry.id], entry, evidence) for entry in entries if entry.id in made]
            )
            for entry_id, svid in made.items():
                self._remember((proof, entry_id), svid)
        return tuple(kept[entry.id] or made[entry.id] for entry in entries)

    async def jwt(self, entries: Sequence[Entry], evidence: Evidence, audience: Sequence[str]) -> tuple[JwtSvid, ...]:
        """A new JWT-SVID for each entry: never the same twice, since receivers may accept a `jti` only once."""
        made = [(entry, self._sign_jwt(entry, tuple(audience))) for entry in entries]
        await self._journal.commit([_jwt_issuance(svid, entry, evidence) for entry, svid in made])
        return tuple(svid for _, svid in made)

    def forget(self) -> None:
        """Drop every remembered SVID with its key."""
        self._svids.clear()

    def _fresh(self, proof: str, entry: Entry) -> X509Svid | None:
        svid = self._svids.get((proof, entry.id))
        if svid is None or self._clock.now() >= renewal(svid):
            return None
        return svid if self._keyring().state(svid.authority) in _USABLE else None

    def _remember(self, key: tuple[str, str], svid: X509Svid) -> None:
        self._svids[key] = svid
        self._svids.move_to_end(key)
        while len(self._svids) > self._remembered:
            self._svids.popitem(last=False)

    def _sign_x509(self, entry: Entry) -> X509Svid:
        keyring, now = self._keyring(), self._clock.now()
        expires = _expiry(now, entry.x509_ttl, keyring.x509_authority)
        key = ec.generate_private_key(ec.SECP256R1())
        serial = serial_number(self._entropy)
        certificate = keyring.x509.sign(
            entry.spiffe_id, key.public_key(), serial=serial, not_before=now - BACKDATED, not_after=expires
        )
        return X509Svid(
            spiffe_id=entry.spiffe_id,
            entry=entry.id,
            authority=keyring.x509_authority.id,
            serial=serial,
            certificate=certificate,
            key=private_bytes(key),
            issued=now,
            expires=expires,
            hint=entry.hint,
        )

    def _sign_jwt(self, entry: Entry, audience: tuple[str, ...]) -> JwtSvid:
        keyring, now = self._keyring(), self._clock.now()
        expires = _expiry(now, entry.jwt_ttl, keyring.jwt_authority)
        token_id = self._entropy(16).hex()
        claims: dict[str, Json] = {
            "sub": str(entry.spiffe_id),
            "aud": list(audience),
            "exp": int(expires.timestamp()),
            "iat": int(now.timestamp()),
            "jti": token_id,
        }
        return JwtSvid(
            spiffe_id=entry.spiffe_id,
            entry=entry.id,
            authority=keyring.jwt_authority.id,
            token_id=token_id,
            token=keyring.jwt.sign(claims),
            audience=audience,
            issued=now,
            expires=expires,
            hint=entry.hint,
        )


def renewal(svid: X509Svid) -> datetime:
    """When a workload should get its successor: half-life, spread by ±5 % so that they do not all come at once."""
    spread = 0.45 + (svid.serial & 0xFFFF) / 0xFFFF / 10
    return svid.issued + (svid.expires - svid.issued) * spread


def _x509_issuance(svid: X509Svid, entry: Entry, evidence: Evidence) -> Issuance:
    return Issuance(
        kind="x509-svid",
        serial=f"{svid.serial:x}",
        entry=entry,
        authority=svid.authority,
        evidence=evidence,
        expires=svid.expires,
    )


def _jwt_issuance(svid: JwtSvid, entry: Entry, evidence: Evidence) -> Issuance:
    return Issuance(
        kind="jwt-svid",
        serial=svid.token_id,
        entry=entry,
        authority=svid.authority,
        evidence=evidence,
        expires=svid.expires,
        audience=svid.audience,
    )


def _expiry(now: datetime, lifetime: timedelta, authority: Authority) -> datetime:
    """Whole seconds; never later than the authority's own end."""
    expires = min(now + lifetime, authority.expires).replace(microsecond=0)
    if expires <= now:
        raise Unavailable(
            "trust.authority.expired",
            f"authority `{authority.id}` has expired and has no successor yet",
            next_step="see why the schedule of the authorities does not run",
            retry_after=timedelta(minutes=1),
        )
    return expires
