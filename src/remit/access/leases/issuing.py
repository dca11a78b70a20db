"""The written half of an issue: names and sealed secrets before any mint, `active` after all of them.

What was made ahead is `active` from the first commit on: its name and its secret were written long before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from remit.access.grants import content_of
from remit.access.leases.model import HeldLease, IssueOrder, LeasePlan, LeaseSettings, principal_name
from remit.access.leases.outcome import activated, assigned, insert_issuing, store_grant
from remit.access.leases.revoker import secret_context, url_safe
from remit.access.model import Lease, LeaseState
from remit.access.ports import AccessUnit
from remit.kernel.clock import Clock
from remit.kernel.errors import Denied
from remit.kernel.ids import new_id
from remit.kernel.unit import Attester, Sealer, Store


class Issuing:
    """Writes leases for one engine (`holder`) of one installation (`instance`)."""

    def __init__(
        self,
        *,
        store: Store[AccessUnit],
        sealer: Sealer,
        attester: Attester,
        clock: Clock,
        instance: str,
        holder: str,
        settings: LeaseSettings,
        entropy: Callable[[int], bytes],
    ) -> None:
        self._store = store
        self._sealer = sealer
        self._attester = attester
        self._clock = clock
        self._instance = instance
        self._holder = holder
        self._settings = settings
        self._entropy = entropy

    async def write_intent(
        self, order: IssueOrder, spares: Sequence[HeldLease | None]
    ) -> tuple[Sequence[HeldLease], Mapping[str, str]]:
        """Commit the grant and every name to come; returns the leases, and each one's secret by its id.

        `spares` are those made ahead, for each plan; `Denied` (`access.lease.withdrawn`) when one is no spare any more.
        """
        signature = self._attester.sign("grant", content_of(order.grant))
        drawn = [
            self._draw(order, plan) if spare is None else self._assign(order, plan, spare)
            for plan, spare in zip(order.plans, spares, strict=True)
        ]

        def work(unit: AccessUnit) -> None:
            store_grant(unit, order, signature)
            for plan, (held, _) in zip(order.plans, drawn, strict=True):
                if held.state is LeaseState.ISSUING:
                    insert_issuing(unit, held, plan.decision)
                elif not assigned(unit, held, plan.decision):
                    raise withdrawn_meanwhile()

        await self._store.write(work)
        return [held for held, _ in drawn], {held.id: secret for held, secret in drawn}

    def _draw(self, order: IssueOrder, plan: LeasePlan) -> tuple[HeldLease, str]:
        now, secret = self._clock.now(), url_safe(self._entropy(32))
        lease_id = new_id("ls", now)
        lease = Lease(
            id=lease_id,
            grant=order.grant.id,
            identity=order.grant.identity,
            task=order.grant.task,
            target=plan.target,
            need=plan.need,
            principal=principal_name(self._instance, now, self._entropy(10)),
            state=LeaseState.ISSUING,
            process=order.process,
            created=now,
            expires=min(now + self._settings.native_ttl, order.grant.expires),
        )
        held = HeldLease(
            lease=lease,
            sealed=self._sealer.seal(secret.encode(), context=secret_context(lease_id)),
            role=plan.role,
            database=plan.database,
            request=plan.request,
            holder=self._holder,
            epoch=1,
        )
        return held, secret

    def _assign(self, order: IssueOrder, plan: LeasePlan, spare: HeldLease) -> tuple[HeldLease, str]:
        now = self._clock.now()
        held = spare.step(
            LeaseState.ACTIVE,
            grant=order.grant.id,
            identity=order.grant.identity,
            task=order.grant.task,
            need=plan.need,
            process=order.process,
            created=now,
            expires=min(now + self._settings.native_ttl, order.grant.expires),
        )
        secret = self._sealer.unseal(spare.sealed, context=secret_context(spare.id)).decode()
        return replace(held, request=plan.request), secret

    async def activate(self, issuing: Sequence[HeldLease]) -> Sequence[HeldLease]:
        """All that are not yet; `Denied` (`access.lease.withdrawn`) when one was withdrawn in the meantime."""
        waiting = [held for held in issuing if held.state is LeaseState.ISSUING]
        if not waiting:
            return ()

        def work(unit: AccessUnit) -> list[HeldLease]:
            active = [held for held in (activated(unit, one) for one in waiting) if held is not None]
            if len(active) != len(waiting):
                raise withdrawn_meanwhile()
            return active

        return await self._store.write(work)


def withdrawn_meanwhile() -> Denied:
    return Denied(
        "access.lease.withdrawn",
        "the lease was withdrawn while it was being issued",
        next_step="`remit explain` says why; run the task again when it is mended",
    )
