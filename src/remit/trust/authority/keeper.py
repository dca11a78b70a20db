"""Keeps the authorities of one trust domain: makes, rotates, taints and revokes them, and holds the keys that sign.

Private keys rest sealed and are unsealed only for the active authorities. A row counts only while its signature
verifies: a certificate that somebody wrote into the database is never published.

Where there is an upstream, it signs our CA certificates, and its roots are ours. While it does not answer, what it
signed last goes on to its own end, and `problems` says so.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from remit.kernel.clock import Clock
from remit.kernel.errors import Conflict, RemitError
from remit.kernel.unit import Attester, Sealer, Store
from remit.trust.authority import lifecycle
from remit.trust.authority.keyring import Keyring, assemble, forged, unseal
from remit.trust.authority.learn import learned_changes
from remit.trust.authority.lifecycle import AuthorityPolicy, Step
from remit.trust.authority.make import Maker
from remit.trust.authority.upstream.port import Upstream
from remit.trust.model import Authority, AuthorityKind, AuthorityState
from remit.trust.ports import TrustUnit
from remit.trust.spiffe import TrustDomain

__all__ = ["SIGNED_AS", "AuthorityKeeper", "Keyring"]

SIGNED_AS = "trust.authority"
SYSTEM = "system:trust"
_SIGNS = (AuthorityState.PREPARED, AuthorityState.ACTIVE)


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
        upstream: Upstream | None = None,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._store = store
        self._sealer = sealer
        self._attester = attester
        self._clock = clock
        self._trust_domain = trust_domain
        self._policy = policy
        self._maker = Maker(trust_domain, sealer=sealer, policy=policy, upstream=upstream, entropy=entropy)
        self._keyring: Keyring | None = None
        self._failures: dict[str, str] = {}
        self._reloading = asyncio.Lock()

    @property
    def keyring(self) -> Keyring:
        assert self._keyring is not None, "the keeper was not opened"
        return self._keyring

    @property
    def problems(self) -> tuple[str, ...]:
        """What the upstream did not do when it was last asked."""
        return tuple(self._failures.values())

    async def open(self) -> None:
        """Load the authorities; make the first of each kind, and do what the schedule missed while nobody kept it.

        Raises `Misconfigured` (`trust.authority.forged`) when rows exist and none of a kind was signed here, and what
        the upstream raises when there is no authority yet.
        """
        await self.tend()

    async def close(self) -> None:
        """Let go of the upstream."""
        if self._maker.upstream is not None:
            await self._maker.upstream.close()

    async def tend(self) -> bool:
        """Do what the schedule asks for now; tells whether anything changed. Call it every minute or so."""
        changed = False
        for kind in AuthorityKind:
            changed |= await self._advance(kind)
        changed |= await self._learn()
        changed |= await self._store.write(self._retire)
        await self._reload()
        return changed

    async def prepare(self, kind: AuthorityKind, *, actor: str) -> Authority:
        """Make and publish the next authority of this kind; if one is prepared already, that one."""
        authority = await self._prepare(kind, actor)
        await self._reload()
        return authority

    async def activate(self, authority_id: str, *, actor: str) -> None:
        """Let a prepared authority sign from now on.

        Raises `NotFound`, `Conflict` (`trust.authority.not_prepared`, `.lost`).
        """
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
            self._revoke(unit, lifecycle.revoke(authorities, authority_id, unit.now), actor)

        await self._store.write(work)
        await self._reload()

    async def signing_key(self, authority_id: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        """Certificate and key of an X.509 authority that is not revoked: to sign what ends its own leaves.

        Raises `NotFound`, `Conflict` (`trust.authority.lost`) when its key is gone, or `Misconfigured`.
        """

        def query(unit: TrustUnit) -> tuple[Authority, bytes | None]:
            return lifecycle.find(self._rows(unit), authority_id), unit.trust.sealed_key(authority_id)

        authority, sealed = await self._store.read(query)
        if authority.kind is not AuthorityKind.X509 or sealed is None:
            raise _lost(authority)
        return x509.load_der_x509_certificate(authority.public), unseal(authority, sealed, self._sealer)

    # What the schedule does.

    async def _advance(self, kind: AuthorityKind) -> bool:
        changed = False
        while (step := lifecycle.due(await self._able(kind), kind, self._clock.now())) is not None:
            try:
                await self._prepare(kind, SYSTEM)
            except RemitError as error:
                if kind is not AuthorityKind.X509 or not await self._goes_on(kind):
                    raise
                self._failures["mint"] = f"no successor of the {kind.value} authority was signed: {error.message}"
                return changed
            if step is Step.ACTIVATE:
                await self._activate_prepared(kind, SYSTEM)
            changed = True
        if kind is AuthorityKind.X509:
            self._failures.pop("mint", None)
        return changed

    async def _able(self, kind: AuthorityKind) -> Sequence[Authority]:
        """The genuine ones; without those that should sign and have lost their key."""

        def query(unit: TrustUnit) -> Sequence[Authority]:
            rows = [one for one in unit.trust.authorities() if one.kind is kind]
            genuine = [one for one in rows if self._is_genuine(one)]
            if rows and not genuine:
                raise forged(kind, rows)
            return [one for one in genuine if one.state not in _SIGNS or unit.trust.sealed_key(one.id) is not None]

        return await self._store.read(query)

    async def _goes_on(self, kind: AuthorityKind) -> bool:
        """Whether an authority is there that signs until its own end."""
        return self._keyring is not None or any(one.state is AuthorityState.ACTIVE for one in await self._able(kind))

    async def _learn(self) -> bool:
        """Publish what the upstream publishes, so that its own rotation finds everyone prepared."""
        upstream, now = self._maker.upstream, self._clock.now()
        published: tuple[bytes, ...] = ()
        if upstream is not None:
            try:
                published = await upstream.roots(now)
            except RemitError as error:
                self._failures["roots"] = f"the upstream authority's roots could not be read: {error.message}"
                return False
        self._failures.pop("roots", None)

        def plan(unit: TrustUnit) -> tuple[Authority, ...]:
            return learned_changes(self._rows(unit), published, now)

        def work(unit: TrustUnit) -> None:
            for one in plan(unit):
                self._put(unit, one, _learned_type(one), SYSTEM)
                unit.trust.advance_bundle_sequence()

        if not await self._store.read(plan):
            return False
        await self._store.write(work)
        return True

    def _retire(self, unit: TrustUnit) -> bool:
        outlived = lifecycle.outlived(self._rows(unit), unit.now)
        for one in outlived:
            self._put(unit, one, "trust.authority.retired", SYSTEM)
        if outlived:
            unit.trust.advance_bundle_sequence()
        return bool(outlived)

    # Steps of a unit of work.

    async def _prepare(self, kind: AuthorityKind, actor: str) -> Authority:
        """Make one, unless one is there that could be activated; one that could not is given up."""

        def usable(unit: TrustUnit, one: Authority) -> bool:
            return one.expires > unit.now and unit.trust.sealed_key(one.id) is not None

        def known(unit: TrustUnit) -> Authority | None:
            return next((one for one in _prepared(self._rows(unit), kind) if usable(unit, one)), None)

        found = await self._store.read(known)
        if found is not None:
            return found
        made, sealed = await self._maker.make(kind, self._clock.now())

        def work(unit: TrustUnit) -> Authority:
            for one in _prepared(self._rows(unit), kind):
                if usable(unit, one):
                    return one
                self._revoke(unit, lifecycle.revoke([one], one.id, unit.now), actor)
            unit.trust.advance_bundle_sequence()
            return self._put(unit, made, "trust.authority.prepared", actor, sealed_key=sealed)

        return await self._store.write(work)

    async def _activate_prepared(self, kind: AuthorityKind, actor: str) -> Authority:
        def work(unit: TrustUnit) -> Authority:
            prepared = _prepared(self._rows(unit), kind)
            if not prepared:
                raise Conflict("trust.authority.raced", "another command used the prepared authority just now")
            return self._activate(unit, prepared[0].id, actor)

        return await self._store.write(work)

    def _activate(self, unit: TrustUnit, authority_id: str, actor: str) -> Authority:
        *old, active = lifecycle.activate(self._rows(unit), authority_id, unit.now)
        if unit.trust.sealed_key(active.id) is None:
            raise _lost(active)
        for one in old:
            lost = unit.trust.sealed_key(one.id) is None
            self._put(unit, one, "trust.authority.lost" if lost else None, actor)
        return self._put(unit, active, "trust.authority.activated", actor)

    def _revoke(self, unit: TrustUnit, revoked: Authority, actor: str) -> None:
        unit.trust.advance_bundle_sequence()
        self._put(unit, revoked, "trust.authority.revoked", actor)

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

    def _rows(self, unit: TrustUnit) -> tuple[Authority, ...]:
        return tuple(one for one in unit.trust.authorities() if self._is_genuine(one))

    def _is_genuine(self, authority: Authority) -> bool:
        return self._attester.verify(SIGNED_AS, authority.as_json(), authority.signature)

    async def _reload(self) -> None:
        def query(unit: TrustUnit) -> tuple[tuple[Authority, ...], dict[str, bytes | None], int]:
            rows = tuple(unit.trust.authorities())
            active = [one for one in rows if one.state is AuthorityState.ACTIVE]
            return rows, {one.id: unit.trust.sealed_key(one.id) for one in active}, unit.trust.bundle_sequence()

        # One after the other: an older reading that came late would undo what a verb has done.
        async with self._reloading:
            rows, sealed, sequence = await self._store.read(query)
            self._keyring = assemble(
                rows,
                [one for one in rows if self._is_genuine(one)],
                sealed,
                before=self._keyring,
                sealer=self._sealer,
                trust_domain=self._trust_domain,
                sequence=sequence,
                refresh_hint=self._policy.refresh_hint,
            )


def _prepared(authorities: Iterable[Authority], kind: AuthorityKind) -> list[Authority]:
    return [one for one in authorities if one.kind is kind and one.state is AuthorityState.PREPARED]


def _learned_type(authority: Authority) -> str:
    return "trust.authority.revoked" if authority.state is AuthorityState.REVOKED else "trust.authority.learned"


def _lost(authority: Authority) -> Conflict:
    return Conflict(
        "trust.authority.lost",
        f"the key of authority `{authority.id}` is gone",
        next_step="prepare another one: `remit authority prepare`",
    )
