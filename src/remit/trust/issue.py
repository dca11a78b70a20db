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
from remit.trust.authority.x509 import BACKDATED, make_leaf_key, public_point, serial_number
from remit.trust.model import Authority, AuthorityState, Entry, Evidence, Issued, JwtSvid, X509Svid
from remit.trust.ports import TrustUnit

MAX_PENDING = 10_000
MAX_BATCH = 500
_BINARIES = 8192
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
    proof: str
    """The evidence's digest: computed once for all that is issued on it."""
    issued: datetime
    expires: datetime
    audience: tuple[str, ...] = ()
    agent: str = ""

    def as_json(self) -> dict[str, Json]:
        return {
            "kind": self.kind,
            "serial": self.serial,
            "spiffe_id": str(self.entry.spiffe_id),
            "entry": self.entry.id,
            "authority": self.authority,
            "evidence": self.proof,
            "selectors": sorted(str(one) for one in self.evidence.selectors),
            "facts": dict(self.evidence.facts),
            "expires": rfc3339(self.expires),
            "audience": list(self.audience),
            **({"agent": self.agent} if self.agent else {}),
        }

    def as_issued(self) -> Issued:
        """What is remembered of it until it expires."""
        return Issued(
            id=self.serial,
            kind=self.kind,
            spiffe_id=str(self.entry.spiffe_id),
            entry=self.entry.id,
            identity=self.entry.identity,
            agent=self.agent,
            authority=self.authority,
            issued=self.issued,
            expires=self.expires,
        )

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
        self._binaries: OrderedDict[tuple[str, str], str] = OrderedDict()

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
            issuances = [issuance for several, _ in group for issuance in several]
            binaries = self._new_binaries(issuances)
            try:
                await self._store.write(_recorder(issuances, binaries))
            except Exception as error:  # supervisor: whatever it is, it is each waiting caller's answer
                for _, done in group:
                    if not done.cancelled():
                        done.set_exception(error)
                        done.exception()
            else:
                self._remember(binaries)
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

    def _new_binaries(self, issuances: Sequence[Issuance]) -> list[_Binary]:
        """Those that are not the one which was last noted from here for the same entry and path, once each."""
        found: dict[tuple[str, str], _Binary] = {}
        for one in issuances:
            path, sha256 = one.evidence.value("path"), one.evidence.value("sha256")
            if path is None or sha256 is None:
                continue
            key = (one.entry.id, path)
            last = found[key].sha256 if key in found else self._binaries.get(key)
            if last != sha256:
                found[key] = _Binary(path, sha256, one)
        return list(found.values())

    def _remember(self, binaries: Sequence[_Binary]) -> None:
        for one in binaries:
            self._binaries[one.issuance.entry.id, one.path] = one.sha256
        while len(self._binaries) > _BINARIES:
            self._binaries.popitem(last=False)


@dataclass(frozen=True, slots=True)
class _Binary:
    """The executable of a workload that an SVID goes to."""

    path: str
    sha256: str
    issuance: Issuance


def _recorder(issuances: Sequence[Issuance], binaries: Sequence[_Binary]) -> Callable[[TrustUnit], None]:
    def work(unit: TrustUnit) -> None:
        for one in issuances:
            unit.record("trust.svid.issued", actor="system:trust", subject=one.subject, data=one.as_json())
        for binary in binaries:
            _note_binary(unit, binary)
        unit.trust.note_issued([one.as_issued() for one in issuances])

    return work


def _note_binary(unit: TrustUnit, binary: _Binary) -> None:
    """Say so when the executable at this path is not the one that this entry was given to before."""
    path, sha256, issuance = binary.path, binary.sha256, binary.issuance
    before = unit.trust.note_binary(issuance.entry.id, path, sha256, unit.now)
    if before is None or before == sha256:
        return
    data: dict[str, Json] = {
        "spiffe_id": str(issuance.entry.spiffe_id),
        "entry": issuance.entry.id,
        "path": path,
        "before": before,
        "now": sha256,
        "evidence": issuance.proof,
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
        revoked: Callable[[X509Svid], bool] = lambda svid: False,
    ) -> None:
        self._journal = journal
        self._keyring = keyring
        self._clock = clock
        self._remembered = remembered
        self._entropy = entropy
        self._revoked = revoked
        self.named = ""
        """The claim `iss` of JWT-SVIDs, for verifiers that find our keys by OpenID discovery; empty for none."""
        self._svids: OrderedDict[tuple[str, str], X509Svid] = OrderedDict()

    async def x509(self, entries: Sequence[Entry], evidence: Evidence) -> tuple[X509Svid, ...]:
        """An X.509-SVID with a key of its own for each entry, fresh ones remembered; durable when this returns."""
        proof = evidence.digest
        kept = {entry.id: self._fresh(proof, entry) for entry in entries}
        made = {entry.id: self._sign_x509(entry) for entry in entries if kept[entry.id] is None}
        if made:
            await self._journal.commit(
                [_x509_issuance(made[entry.id], entry, evidence, proof) for entry in entries if entry.id in made]
            )
            for entry_id, svid in made.items():
                self._remember((proof, entry_id), svid)
        return tuple(kept[entry.id] or made[entry.id] for entry in entries)

    async def x509_for(
        self, keys: Sequence[tuple[Entry, ec.EllipticCurvePublicKey]], evidence: Evidence, *, agent: str = ""
    ) -> tuple[X509Svid, ...]:
        """An X.509-SVID for each public key that an agent presents; `key` of what returns is empty."""
        made, proof = [(entry, self._sign_x509(entry, public)) for entry, public in keys], evidence.digest
        await self._journal.commit([_x509_issuance(svid, entry, evidence, proof, agent) for entry, svid in made])
        return tuple(svid for _, svid in made)

    async def jwt(
        self, entries: Sequence[Entry], evidence: Evidence, audience: Sequence[str], *, agent: str = ""
    ) -> tuple[JwtSvid, ...]:
        """A new JWT-SVID for each entry: never the same twice, since receivers may accept a `jti` only once."""
        made, proof = [(entry, self._sign_jwt(entry, tuple(audience))) for entry in entries], evidence.digest
        await self._journal.commit([_jwt_issuance(svid, entry, evidence, proof, agent) for entry, svid in made])
        return tuple(svid for _, svid in made)

    def forget(self) -> None:
        """Drop every remembered SVID with its key."""
        self._svids.clear()

    def _fresh(self, proof: str, entry: Entry) -> X509Svid | None:
        svid = self._svids.get((proof, entry.id))
        if svid is None or self._clock.now() >= renewal(svid) or self._revoked(svid):
            return None
        return svid if self._keyring().state(svid.authority) in _USABLE else None

    def _remember(self, key: tuple[str, str], svid: X509Svid) -> None:
        self._svids[key] = svid
        self._svids.move_to_end(key)
        while len(self._svids) > self._remembered:
            self._svids.popitem(last=False)

    def _sign_x509(self, entry: Entry, public: ec.EllipticCurvePublicKey | None = None) -> X509Svid:
        keyring, now = self._keyring(), self._clock.now()
        expires = _expiry(now, entry.x509_ttl, keyring.x509_authority)
        private, point = make_leaf_key() if public is None else (b"", public_point(public))
        serial = serial_number(self._entropy)
        certificate = keyring.x509.sign_point(
            entry.spiffe_id, point, serial=serial, not_before=now - BACKDATED, not_after=expires
        )
        return X509Svid(
            spiffe_id=entry.spiffe_id,
            entry=entry.id,
            authority=keyring.x509_authority.id,
            serial=serial,
            certificate=certificate,
            chain=b"".join(keyring.x509_authority.intermediates),
            key=private,
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
            **({"iss": self.named} if self.named else {}),
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


def _x509_issuance(svid: X509Svid, entry: Entry, evidence: Evidence, proof: str, agent: str = "") -> Issuance:
    return Issuance(
        kind="x509-svid",
        serial=f"{svid.serial:x}",
        entry=entry,
        authority=svid.authority,
        evidence=evidence,
        proof=proof,
        agent=agent,
        issued=svid.issued,
        expires=svid.expires,
    )


def _jwt_issuance(svid: JwtSvid, entry: Entry, evidence: Evidence, proof: str, agent: str = "") -> Issuance:
    return Issuance(
        kind="jwt-svid",
        serial=svid.token_id,
        entry=entry,
        authority=svid.authority,
        evidence=evidence,
        proof=proof,
        agent=agent,
        issued=svid.issued,
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
