"""Downstreams: control planes of this trust domain that get an intermediate of ours, and issue by themselves.

An intermediate can make any SVID of the domain, so that who may have one is registered by a person, signed, in the
journal of authority, and asked at each signing. What is signed is in the ledger before it leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from remit.kernel.canonical import Json
from remit.kernel.clock import Clock, rfc3339
from remit.kernel.errors import Conflict, Denied, NotFound, Rejected, Unavailable
from remit.kernel.unit import Attester, Store
from remit.trust.authority.ca import LEAST_LIFETIME, read_request, sign_intermediate
from remit.trust.authority.keyring import Keyring
from remit.trust.authority.x509 import serial_number
from remit.trust.model import Issued, PresentedSvid
from remit.trust.ports import TrustUnit
from remit.trust.spiffe import SpiffeId, TrustDomain

SIGNED_AS = "trust.downstream"
KIND = "x509-intermediate"
"""The kind of what is noted as issued."""
DEFAULT_LIFETIME = timedelta(hours=24)
MOST_LIFETIME = timedelta(days=30)
_BURST = 8
_PAUSE = timedelta(seconds=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Downstream:
    """Who may have intermediates, and for how long at most. It counts only while `signature` verifies."""

    id: str
    spiffe_id: SpiffeId
    lifetime: timedelta
    """The longest life of one intermediate."""
    created: datetime
    by: str
    signature: str = ""

    def as_json(self) -> dict[str, Json]:
        """What its signature covers."""
        return {
            "id": self.id,
            "spiffe_id": str(self.spiffe_id),
            "lifetime": int(self.lifetime.total_seconds()),
            "created": rfc3339(self.created),
            "by": self.by,
        }


class DownstreamRows(Protocol):
    """Rows of downstreams, oldest first."""

    def all(self) -> Sequence[Downstream]: ...
    def of(self, spiffe_id: SpiffeId) -> Downstream | None: ...
    def add(self, downstream: Downstream) -> None: ...
    def remove(self, downstream_id: str) -> bool: ...


class DownstreamUnit(TrustUnit, Protocol):
    """A unit of work with the rows of downstreams."""

    @property
    def downstreams(self) -> DownstreamRows: ...


class Downstreams:
    """Registers downstreams of `trust_domain`, and signs their intermediates with the active authority."""

    def __init__(
        self,
        store: Store[DownstreamUnit],
        *,
        attester: Attester,
        clock: Clock,
        trust_domain: TrustDomain,
        keyring: Callable[[], Keyring],
        entropy: Callable[[int], bytes],
    ) -> None:
        self._store = store
        self._attester = attester
        self._clock = clock
        self._trust_domain = trust_domain
        self._keyring = keyring
        self._entropy = entropy
        self._recent: dict[str, list[datetime]] = {}

    async def allow(self, spiffe_id: str, *, actor: str, lifetime: timedelta = DEFAULT_LIFETIME) -> Downstream:
        """Let this id have intermediates; the same again returns the one that is there.

        Raises `Rejected` (`trust.downstream.foreign`, `.lifetime`), `Conflict` (`trust.downstream.exists`).
        """
        parsed = SpiffeId.parse(spiffe_id)
        if parsed.trust_domain != self._trust_domain:
            raise Rejected(
                "trust.downstream.foreign", f"`{parsed}` is no workload of our trust domain `{self._trust_domain}`"
            )
        if not timedelta(hours=1) <= lifetime <= MOST_LIFETIME or lifetime.microseconds:
            raise Rejected(
                "trust.downstream.lifetime", "an intermediate lives for an hour to 30 days", next_step="24 h is usual"
            )

        def work(unit: DownstreamUnit) -> Downstream:
            known = unit.downstreams.of(parsed)
            if known is not None and self._is_genuine(known):
                if known.lifetime == lifetime:
                    return known
                raise Conflict(
                    "trust.downstream.exists",
                    f"`{parsed}` is allowed already, with another lifetime",
                    next_step=f"`remit downstream rm {known.id}` first",
                )
            if known is not None:
                unit.downstreams.remove(known.id)
            made = Downstream(id=unit.new_id("dn"), spiffe_id=parsed, lifetime=lifetime, created=unit.now, by=actor)
            made = replace(made, signature=self._attester.sign(SIGNED_AS, made.as_json()))
            unit.downstreams.add(made)
            unit.record("trust.downstream.allowed", actor=actor, subject=str(parsed), data=made.as_json())
            return made

        return await self._store.write(work)

    async def withdraw(self, downstream_id: str, *, actor: str) -> Downstream:
        """Let it have no more intermediates; those that it has are ended by revoking them. `NotFound`."""

        def work(unit: DownstreamUnit) -> Downstream:
            found = next((one for one in unit.downstreams.all() if one.id == downstream_id), None)
            if found is None:
                raise NotFound("trust.downstream.unknown", f"no downstream is called `{downstream_id[:80]}`")
            unit.downstreams.remove(found.id)
            unit.record("trust.downstream.withdrawn", actor=actor, subject=str(found.spiffe_id), data=found.as_json())
            return found

        return await self._store.write(work)

    async def list(self) -> tuple[Downstream, ...]:
        """Those that count, oldest first."""
        found = await self._store.read(lambda unit: unit.downstreams.all())
        return tuple(one for one in found if self._is_genuine(one))

    async def require(self, svid: PresentedSvid) -> Downstream:
        """The registration of a peer. `Denied` (`trust.downstream.unknown`) when it has none."""
        found = await self._store.read(lambda unit: unit.downstreams.of(svid.spiffe_id))
        if found is None or not self._is_genuine(found):
            raise _unknown(svid)
        return found

    async def mint(self, svid: PresentedSvid, request: bytes, lifetime: timedelta) -> tuple[bytes, ...]:
        """An intermediate for the key of a PKCS#10 request: its chain in DER, ours above it, the root last.

        1. the peer is registered; 2. it did not ask too often; 3. the request is signed by its own key; 4. the
        certificate is recorded and noted as issued; 5. only then it is handed out.

        Raises `Denied`, `Unavailable` (`trust.downstream.flooded`, `trust.authority.expired`), `Rejected`
        (`trust.request.malformed`) or `Conflict` (`trust.downstream.depth`).
        """
        allowed = await self.require(svid)
        now = self._clock.now()
        self._count(allowed.id, now)
        read_request(request)
        keyring = self._keyring()
        issuer = x509.load_der_x509_certificate(keyring.x509_authority.public)
        _check_depth(issuer)
        left = keyring.x509_authority.expires - now
        if left < LEAST_LIFETIME:
            raise Unavailable(
                "trust.authority.expired", f"authority `{keyring.x509_authority.id}` ends too soon", retry_after=_PAUSE
            )
        made = sign_intermediate(
            request,
            trust_domain=self._trust_domain,
            issuer=issuer,
            key=keyring.x509_key,
            serial=serial_number(self._entropy),
            now=now,
            lifetime=min(lifetime, allowed.lifetime, left),
        )

        def work(unit: DownstreamUnit) -> None:
            # It may have been withdrawn since it was looked up: then nothing is recorded, and nothing handed out.
            known = unit.downstreams.of(svid.spiffe_id)
            if known is None or known.id != allowed.id:
                raise _unknown(svid)
            _note(unit, made, allowed, keyring.x509_authority.id)

        await self._store.write(work)
        authority = keyring.x509_authority
        return (made.public_bytes(Encoding.DER), authority.public, *authority.chain)

    def _count(self, downstream_id: str, now: datetime) -> None:
        """At most eight in ten seconds each: a loop must not fill the ledger."""
        recent = [one for one in self._recent.get(downstream_id, ()) if now - one < _PAUSE]
        if len(recent) >= _BURST:
            raise Unavailable("trust.downstream.flooded", "too many intermediates were asked for", retry_after=_PAUSE)
        self._recent[downstream_id] = [*recent, now]

    def _is_genuine(self, downstream: Downstream) -> bool:
        return self._attester.verify(SIGNED_AS, downstream.as_json(), downstream.signature)


def _unknown(svid: PresentedSvid) -> Denied:
    return Denied(
        "trust.downstream.unknown",
        f"`{svid.spiffe_id}` may not have an intermediate authority",
        next_step="a person allows it: `remit downstream add SPIFFE-ID`",
    )


def _check_depth(issuer: x509.Certificate) -> None:
    length = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
    if length is not None and length < 1:
        raise Conflict(
            "trust.downstream.depth",
            "our own authority is an intermediate that allows no other below it",
            next_step="nest below the Remit that holds the root",
        )


def _note(unit: DownstreamUnit, made: x509.Certificate, allowed: Downstream, authority: str) -> None:
    serial = f"{made.serial_number:x}"
    unit.trust.note_issued(
        [
            Issued(
                id=serial, kind=KIND, spiffe_id=str(allowed.spiffe_id), authority=authority, issued=unit.now,
                expires=made.not_valid_after_utc,
            )
        ]
    )  # fmt: skip
    unit.record(
        "trust.intermediate.issued",
        actor=str(allowed.spiffe_id),
        subject=str(allowed.spiffe_id),
        data={
            "serial": serial, "downstream": allowed.id, "authority": authority,
            "expires": rfc3339(made.not_valid_after_utc),
            "certificate": made.public_bytes(Encoding.DER).hex(),
        },
    )  # fmt: skip
