"""What a unit of work writes about leases: each step of a lease's life with its ledger entry, or neither.

Every function takes leases as they were read and returns them as they stand now; one that another engine took over
in the meantime is left out, and nothing is written about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from remit.access.leases.model import HeldLease, IssueOrder
from remit.access.model import GrantState, Lease, LeaseState, Proved, Revocation, Unproved
from remit.access.ports import AccessUnit, StoredGrant
from remit.access.tasks.kinds import Far, task_json
from remit.kernel.canonical import Json
from remit.kernel.clock import rfc3339
from remit.kernel.errors import Conflict

ACTOR = "system:leases"


def label_of(lease: Lease) -> str:
    """What stands beside the credential on the target: `identity=… task=… lease=…`, at most 400 characters."""
    return f"identity={lease.identity} task={lease.task} lease={lease.id}"[:400]


def store_grant(unit: AccessUnit, order: IssueOrder, signature: str) -> None:
    """Bind the grant to the process that uses it; `Conflict` (`access.grant.used`) when another run has it."""
    grant = order.grant
    stored = unit.access.grant(grant.id)
    bound = StoredGrant(grant=grant, signature=signature, process=order.process, proven=order.proven)
    if stored is None:
        unit.access.insert_grant(bound)
        unit.record("access.grant.created", actor=grant.identity, subject=grant.id, data=_grant_data(order))
        return
    if stored.process is not None or stored.grant.state is not GrantState.APPROVED:
        raise Conflict(
            "access.grant.used",
            f"the grant `{grant.id}` was used by another run or has ended",
            next_step="ask for a new one: `remit request`",
        )
    unit.access.change_grant(replace(stored, process=order.process, proven=order.proven))
    unit.record("access.grant.used", actor=grant.identity, subject=grant.id, data=_grant_data(order))


def _grant_data(order: IssueOrder) -> dict[str, Json]:
    grant = order.grant
    return {
        "digest": grant.digest,
        "task": grant.task,
        "task_digest": grant.task_digest,
        "needs": list(grant.needs),
        "decisions": [plan.decision for plan in order.plans],
        "expires": rfc3339(grant.expires),
        "run": task_json(order.process),
        "proven": dict(order.proven),
    }


def end_grant(unit: AccessUnit, grant_id: str, reason: str) -> None:
    """Close a grant that is open; a closed one is left as it is."""
    stored = unit.access.grant(grant_id)
    if stored is not None and stored.grant.state is GrantState.APPROVED:
        ended = replace(stored, grant=replace(stored.grant, state=GrantState.ENDED), ended=unit.now)
        unit.access.change_grant(ended)
        unit.record("access.grant.ended", actor=ACTOR, subject=grant_id, data={"reason": reason})
        if isinstance(stored.process, Far):
            unit.access.end_run(stored.process.run, unit.now, reason)


def insert_issuing(unit: AccessUnit, held: HeldLease, decision: str) -> None:
    """Commit the name before the credential exists."""
    unit.access.insert_lease(held)
    _record(unit, "issuing", held, actor=held.lease.identity, data={"decision": decision})


def insert_spare(unit: AccessUnit, held: HeldLease) -> None:
    """Commit the name of a credential that is made ahead, before it exists."""
    unit.access.insert_lease(held)
    _record(unit, "issuing", held, actor=ACTOR, data={"spare": True})


def shelved(unit: AccessUnit, held: HeldLease) -> HeldLease | None:
    """`issuing` → `spare`: the target confirmed it, and admits nobody by it."""
    spare = replace(held.step(LeaseState.SPARE), issued=unit.now)
    if not unit.access.change_lease(spare, epoch=held.epoch, was={LeaseState.ISSUING}):
        return None
    _record(unit, "spare", spare, actor=ACTOR, data={})
    return spare


def assigned(unit: AccessUnit, held: HeldLease, decision: str) -> bool:
    """`spare` → `active`, for the task that `held` names now; false when it was withdrawn in the meantime."""
    if not unit.access.change_lease(held, epoch=held.epoch, was={LeaseState.SPARE}):
        return False
    data: dict[str, Json] = {"decision": decision, "expires": rfc3339(held.lease.expires), "spare": True}
    _record(unit, "issued", held, actor=held.lease.identity, data=data)
    return True


def activated(unit: AccessUnit, held: HeldLease) -> HeldLease | None:
    """`issuing` → `active`: the target confirmed the credential."""
    active = replace(held.step(LeaseState.ACTIVE), issued=unit.now)
    if not unit.access.change_lease(active, epoch=held.epoch, was={LeaseState.ISSUING}):
        return None
    _record(unit, "issued", active, actor=held.lease.identity, data={"expires": rfc3339(held.lease.expires)})
    return active


def renewed(unit: AccessUnit, held_leases: Sequence[HeldLease]) -> list[HeldLease]:
    """Keep the new expiry of those that are still active. No ledger entry: renewals are many and change no right."""
    return [held for held in held_leases if unit.access.change_lease(held, epoch=held.epoch, was={LeaseState.ACTIVE})]


def withdrawn(unit: AccessUnit, found: Sequence[HeldLease], *, holder: str, reason: str, actor: str) -> list[HeldLease]:
    """`issuing`, `spare` or `active` → `revoking`, under the next epoch: who held it before can write nothing more."""
    changed: list[HeldLease] = []
    for held in found:
        if held.state not in (LeaseState.ISSUING, LeaseState.SPARE, LeaseState.ACTIVE):
            continue
        taken = replace(held.step(LeaseState.REVOKING, reason=reason), holder=holder, epoch=held.epoch + 1)
        if unit.access.change_lease(taken, epoch=held.epoch, was={held.state}):
            _record(unit, "revoking", taken, actor=actor, data={"reason": reason})
            changed.append(taken)
    return changed


def absent(unit: AccessUnit, held: HeldLease) -> HeldLease | None:
    """`revoking` → `failed`: it was never confirmed, and the target does not know the name."""
    failed = held.step(LeaseState.FAILED, revoked=unit.now)
    if not unit.access.change_lease(failed, epoch=held.epoch, was={LeaseState.REVOKING}):
        return None
    _record(unit, "failed", failed, actor=ACTOR, data={"reason": held.lease.reason})
    return failed


def concluded(unit: AccessUnit, held: HeldLease, revocation: Revocation | None) -> HeldLease | None:
    """What the target answered: `revoked` with its proof, `unproved`, or still `revoking`."""
    was = {LeaseState.REVOKING, LeaseState.UNPROVED}
    attempts = held.lease.attempts + 1
    if revocation is None or not revocation.gone:
        said = "the target did not say" if revocation is None else _why(revocation)
        left = replace(held, lease=replace(held.lease, attempts=attempts), trouble=said[:1000])
        return left if unit.access.change_lease(left, epoch=held.epoch, was=was) else None
    proof = proof_json(revocation)
    if isinstance(revocation.proof, Unproved):
        unproved = replace(
            held.step(LeaseState.UNPROVED, attempts=attempts, proof=proof), trouble=revocation.proof.why[:1000]
        )
        if not unit.access.change_lease(unproved, epoch=held.epoch, was=was):
            return None
        if held.state is LeaseState.REVOKING:
            _record(unit, "unproved", unproved, actor=ACTOR, data={"proof": proof})
        return unproved
    revoked = held.step(LeaseState.REVOKED, attempts=attempts, proof=proof, revoked=unit.now)
    # The secret has served its last purpose: being refused.
    if not unit.access.change_lease(replace(revoked, sealed=b"", trouble=""), epoch=held.epoch, was=was):
        return None
    _record(unit, "revoked", revoked, actor=ACTOR, data={"reason": held.lease.reason, "proof": proof})
    return revoked


def postponed(unit: AccessUnit, batch: Sequence[HeldLease], trouble: str) -> list[HeldLease]:
    """The target did not carry it out: the leases stay what they are, not contained, with the reason beside them."""
    left = [
        replace(held, lease=replace(held.lease, attempts=held.lease.attempts + 1), trouble=trouble[:1000])
        for held in batch
    ]
    was = {LeaseState.REVOKING, LeaseState.UNPROVED}
    return [held for held in left if unit.access.change_lease(held, epoch=held.epoch, was=was)]


def record_orphan(unit: AccessUnit, target: str, revocation: Revocation, held: HeldLease | None) -> None:
    """A name of ours on the target that no live lease explained, and what became of it."""
    known = {} if held is None else {"lease": held.id, "identity": held.lease.identity, "task": held.lease.task}
    data: dict[str, Json] = {"target": target, "principal": revocation.principal, **known, **proof_json(revocation)}
    if not (held is not None and held.sealed):
        data["proof"] = {"absence": "nobody knew its secret; the target no longer knows the name"}
    kind = "revoked" if revocation.gone else "found"
    unit.record(f"access.orphan.{kind}", actor=ACTOR, subject=revocation.principal, data=data)


def proof_json(revocation: Revocation) -> dict[str, Json]:
    """A revocation as the ledger keeps it."""
    proof = revocation.proof
    said: dict[str, Json] = (
        {"refusal": proof.refusal, "control": proof.control} if isinstance(proof, Proved) else {"unproved": proof.why}
    )
    return {
        "gone": revocation.gone,
        "sessions_ended": revocation.sessions_ended,
        "duration_us": round(revocation.duration.total_seconds() * 1_000_000),
        "left_behind": [{"what": one.what, "fate": one.fate} for one in revocation.left_behind[:100]],
        "proof": said,
    }


def _why(revocation: Revocation) -> str:
    return revocation.proof.why if isinstance(revocation.proof, Unproved) else "it still exists on the target"


def _record(unit: AccessUnit, past: str, held: HeldLease, *, actor: str, data: dict[str, Json]) -> None:
    lease = held.lease
    unit.record(
        f"access.lease.{past}",
        actor=actor,
        subject=lease.id,
        data={
            "target": lease.target,
            "principal": lease.principal,
            "need": lease.need,
            "grant": lease.grant,
            "identity": lease.identity,
            "task": lease.task,
            **data,
        },
    )
