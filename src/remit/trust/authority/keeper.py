"""Keeps the authorities of one trust domain: makes, rotates, taints and revokes them, and holds the keys that sign.

Private keys rest sealed and are unsealed only for the two active authorities. A row counts only while its signature
verifies: a certificate that somebody wrote into the database is never published.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from remit.kernel.clock import Clock
from remit.kernel.errors import Conflict, Misconfigured
from remit.kernel.ids import new_id
from remit.kernel.unit import Attester, Sealer, Store
from remit.trust.authority import lifecycle
from remit.trust.authority.bundle import Bundle, public_key
from remit.trust.authority.jwt import TokenSigner
from remit.trust.authority.lifecycle import AuthorityPolicy, Step
from remit.trust.authority.x509 import (
    LeafSigner,
    load_private,
    make_root,
    private_bytes,
    public_info,
    serial_number,
)
from remit.trust.model import Authority, AuthorityKind, AuthorityState
from remit.trust.ports import TrustUnit
from remit.trust.spiffe import TrustDomain

SIGNED_AS = "trust.authority"
SYSTEM = "system:trust"


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyring:
    """What signs now, and what is published: swapped as a whole, never changed."""

    authorities: tuple[Authority, ...]
    bundle: Bundle
    x509: LeafSigner
    x509_authority: Authority
    jwt: TokenSigner
    jwt_authority: Authority
    refused: tuple[str, ...]
    """Ids of rows that were not signed here."""

    def state(self, authority_id: str) -> AuthorityState | None:
        """The state of an authority; `None` when there is none of that id."""
        return next((one.state for one in self.authorities if one.id == authority_id), None)


class AuthorityKeeper:
    """The authorities of `trust_domain` in `store`. `open` first; every verb leaves `keyring` up to date."""

    def __init__(
        self,
        store: Store[TrustUnit],
        *,
        sealer: Sealer,
        attester: Attester,
        clock: Clock,
        trust_domain: TrustDomain,
        policy: AuthorityPolicy,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._store = store
        self._sealer = sealer
        self._attester = attester
        self._clock = clock
        self._trust_domain = trust_domain
        self._policy = policy
        self._entropy = entropy
        self._keyring: Keyring | None = None

    @property
    def keyring(self) -> Keyring:
        assert self._keyring is not None, "the keeper was not opened"
        return self._keyring

    async def open(self) -> None:
        """Load the authorities; make the first of each kind, and do what the schedule missed while nobody kept it.

        Raises `Misconfigured` (`trust.authority.forged`) when rows exist and none of a kind was signed here.
        """
        await self.tend()

    async def tend(self) -> bool:
        """Do what the schedule asks for now; tells whether anything changed. Call it every minute or so."""
        changed = False
        for kind in AuthorityKind:
            while (step := lifecycle.due(await self._genuine(kind), kind, self._clock.now())) is not None:
                await self._prepare(kind, SYSTEM)
                if step is Step.ACTIVATE:
                    await self._activate_prepared(kind, SYSTEM)
                changed = True
        changed |= await self._store.write(self._retire)
        await self._reload()
        return changed

    async def prepare(self, kind: AuthorityKind, *, actor: str) -> Authority:
        """Make and publish the next authority of this kind; if one is prepared already, that one."""
        authority = await self._prepare(kind, actor)
        await self._reload()
        return authority

    async def activate(self, authority_id: str, *, actor: str) -> None:
        """Let a prepared authority sign from now on. `NotFound`, `Conflict` (`trust.authority.not_prepared`)."""
        await self._store.write(lambda unit: self._activate(unit, authority_id, actor))
        await self._reload()

    async def rotate(self, kind: AuthorityKind, *, actor: str) -> Authority:
        """Prepare if need be, and activate at once; returns the authority that signs now."""
        await self._prepare(kind, actor)
        authority = await self._activate_prepared(kind, actor)
        await self._reload()
        return authority

    async def taint(self, authority_id: str, *, actor: str) -> None:
        """Have everything that this old authority signed replaced now. `NotFound`, `Conflict`."""

        def work(unit: TrustUnit) -> None:
            self._put(unit, lifecycle.taint(self._rows(unit), authority_id), "trust.authority.tainted", actor)

        await self._store.write(work)
        await self._reload()

    async def revoke(self, authority_id: str, *, actor: str) -> None:
        """Take it out of the bundle and destroy its key. `NotFound`, `Conflict` (`trust.authority.active`)."""

        def work(unit: TrustUnit) -> None:
            authorities = self._rows(unit)
            if lifecycle.find(authorities, authority_id).state is AuthorityState.REVOKED:
                return
            changed = lifecycle.revoke(authorities, authority_id, unit.now)
            unit.trust.advance_bundle_sequence()
            self._put(unit, changed, "trust.authority.revoked", actor)

        await self._store.write(work)
        await self._reload()

    async def _prepare(self, kind: AuthorityKind, actor: str) -> Authority:
        made, sealed = self._make(kind, self._clock.now())

        def work(unit: TrustUnit) -> Authority:
            prepared = _prepared(self._rows(unit), kind)
            if prepared is not None:
                return prepared
            unit.trust.advance_bundle_sequence()
            return self._put(unit, made, "trust.authority.prepared", actor, sealed_key=sealed)

        return await self._store.write(work)

    async def _activate_prepared(self, kind: AuthorityKind, actor: str) -> Authority:
        def work(unit: TrustUnit) -> Authority:
            prepared = _prepared(self._rows(unit), kind)
            if prepared is None:
                raise Conflict("trust.authority.raced", "another command used the prepared authority just now")
            return self._activate(unit, prepared.id, actor)

        return await self._store.write(work)

    def _activate(self, unit: TrustUnit, authority_id: str, actor: str) -> Authority:
        *old, active = lifecycle.activate(self._rows(unit), authority_id, unit.now)
        for one in old:
            self._put(unit, one, None, actor)
        return self._put(unit, active, "trust.authority.activated", actor)

    def _retire(self, unit: TrustUnit) -> bool:
        outlived = lifecycle.outlived(self._rows(unit), unit.now)
        for one in outlived:
            self._put(unit, one, "trust.authority.retired", SYSTEM)
        if outlived:
            unit.trust.advance_bundle_sequence()
        return bool(outlived)

    def _make(self, kind: AuthorityKind, now: datetime) -> tuple[Authority, bytes]:
        key = ec.generate_private_key(ec.SECP256R1())
        public, expires = self._public_half(kind, key, now)
        authority = Authority(
            id=new_id("au", now),
            kind=kind,
            state=AuthorityState.PREPARED,
            public=public,
            created=now,
            expires=expires,
        )
        return authority, self._sealer.seal(private_bytes(key), context=_context(authority))

    def _public_half(
        self, kind: AuthorityKind, key: ec.EllipticCurvePrivateKey, now: datetime
    ) -> tuple[bytes, datetime]:
        if kind is AuthorityKind.JWT:
            return public_info(key.public_key()), now + self._policy.lifetime
        serial = serial_number(self._entropy)
        root = make_root(self._trust_domain, key, serial=serial, now=now, lifetime=self._policy.lifetime)
        return root.public_bytes(Encoding.DER), root.not_valid_after_utc

    def _put(
        self, unit: TrustUnit, authority: Authority, type: str | None, actor: str, *, sealed_key: bytes | None = None
    ) -> Authority:
        signed = replace(authority, signature=self._attester.sign(SIGNED_AS, authority.as_json()))
        if sealed_key is None and signed.state is not AuthorityState.REVOKED:
            sealed_key = unit.trust.sealed_key(signed.id)
        unit.trust.put_authority(signed, sealed_key)
        if type is not None:
            data = {**signed.as_json(), "bundle_sequence": unit.trust.bundle_sequence()}
            unit.record(type, actor=actor, subject=self._trust_domain.id, data=data)
        return signed

    async def _genuine(self, kind: AuthorityKind) -> Sequence[Authority]:
        def query(unit: TrustUnit) -> Sequence[Authority]:
            rows = [one for one in unit.trust.authorities() if one.kind is kind]
            genuine = [one for one in rows if self._is_genuine(one)]
            if rows and not genuine:
                raise _forged(kind, rows)
            return genuine

        return await self._store.read(query)

    def _rows(self, unit: TrustUnit) -> tuple[Authority, ...]:
        return tuple(one for one in unit.trust.authorities() if self._is_genuine(one))

    def _is_genuine(self, authority: Authority) -> bool:
        return self._attester.verify(SIGNED_AS, authority.as_json(), authority.signature)

    async def _reload(self) -> None:
        def query(unit: TrustUnit) -> tuple[tuple[Authority, ...], dict[str, bytes | None], int]:
            rows = tuple(unit.trust.authorities())
            active = [one for one in rows if one.state is AuthorityState.ACTIVE]
            return rows, {one.id: unit.trust.sealed_key(one.id) for one in active}, unit.trust.bundle_sequence()

        rows, sealed, sequence = await self._store.read(query)
        genuine = tuple(one for one in rows if self._is_genuine(one))
        leaf = _active(genuine, AuthorityKind.X509)
        token = _active(genuine, AuthorityKind.JWT)
        self._keyring = Keyring(
            authorities=genuine,
            bundle=Bundle.of(self._trust_domain, genuine, sequence=sequence, refresh_hint=self._policy.refresh_hint),
            x509=LeafSigner(x509.load_der_x509_certificate(leaf.public), self._unseal(leaf, sealed[leaf.id])),
            x509_authority=leaf,
            jwt=TokenSigner(token.id, self._unseal(token, sealed[token.id])),
            jwt_authority=token,
            refused=tuple(one.id for one in rows if one not in genuine),
        )

    def _unseal(self, authority: Authority, sealed: bytes | None) -> ec.EllipticCurvePrivateKey:
        if sealed is None:
            raise _unusable(authority, "has no key")
        key = load_private(self._sealer.unseal(sealed, context=_context(authority)))
        if key.public_key() != public_key(authority):
            raise _unusable(authority, "has the key of another")
        return key


def _context(authority: Authority) -> str:
    return f"trust_authority/{authority.id}/key"


def _prepared(authorities: Iterable[Authority], kind: AuthorityKind) -> Authority | None:
    return next((one for one in authorities if one.kind is kind and one.state is AuthorityState.PREPARED), None)


def _active(authorities: Sequence[Authority], kind: AuthorityKind) -> Authority:
    for one in authorities:
        if one.kind is kind and one.state is AuthorityState.ACTIVE:
            return one
    raise _forged(kind, authorities)


def _forged(kind: AuthorityKind, rows: Sequence[Authority]) -> Misconfigured:
    return Misconfigured(
        "trust.authority.forged",
        f"{len(rows)} {kind.value} authorities are stored, and none that could sign was signed by this installation",
        next_step="restore the database together with the keys of its own installation",
    )


def _unusable(authority: Authority, why: str) -> Misconfigured:
    return Misconfigured(
        "trust.authority.unusable",
        f"the active {authority.kind.value} authority `{authority.id}` {why}",
        next_step="restore the database from a backup of this installation",
    )
