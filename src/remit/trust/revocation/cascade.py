"""The cascade: what falls with a subject, computed and written in one unit of work.

What takes rights away needs no signature. What gives them back does: a restoration counts only while its signature
verifies, and the journal of authority keeps both, so that a deleted row comes back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import groupby
from typing import TypeAlias

from remit.kernel.canonical import Json
from remit.kernel.clock import rfc3339
from remit.kernel.errors import Conflict, NotFound, Rejected
from remit.kernel.unit import Attester
from remit.trust.model import Issued
from remit.trust.revocation.model import (
    BLOCKING,
    GROUPS,
    MAX_REASON,
    SINGLE,
    Effect,
    Fallen,
    Revocation,
    Subject,
    SubjectKind,
)
from remit.trust.revocation.ports import RevocationUnit

SIGNED_AS = "trust.restoration"
MADE, SPREAD, RESTORED, ENDED = (f"trust.revocation.{what}" for what in ("made", "spread", "restored", "ended"))
RETURNED = "trust.token.returned"
_CHUNK_BYTES = 40_000
"""Of members and fallen things in one ledger entry: well below the size at which an entry keeps its data elsewhere."""
_LONGEST = timedelta(hours=4)
"""No SVID or token lives longer: so long is an id kept that is revoked unseen."""

Expand: TypeAlias = Callable[[RevocationUnit, Subject], Sequence[Subject]]
"""Says, in the unit of work, what a subject stands for; the subject itself where it stands for nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be revoked, why, and who says so."""

    subject: Subject
    reason: str
    actor: str
    unseen: bool = False
    """Revoke a serial or token id even though it is not among what we know to be valid."""
    returned: bool = False
    """Its own holder gives it back: one ledger entry, and nobody is woken for it."""


def check_reason(subject: Subject, reason: str) -> None:
    """Refuse a reason that is too long or not printable, or the lack of one where more than a single thing falls.

    Raises `Rejected` (`trust.revocation.reason`).
    """
    if len(reason) > MAX_REASON or not reason.isprintable():
        raise Rejected("trust.revocation.reason", f"the reason is longer than {MAX_REASON} characters or not printable")
    if not reason.strip() and subject.kind not in SINGLE:
        raise Rejected(
            "trust.revocation.reason",
            f"nothing says why everything of `{str(subject)[:200]}` is to be revoked",
            next_step="add `--reason TEXT`",
        )


def effect(unit: RevocationUnit, order: Order, expand: Expand, known: Collection[str]) -> Effect:
    """What falls with it; `known` are ids that fell before. Changes nothing.

    Raises `NotFound` (`trust.revocation.unknown`) for a serial or token id that is not valid here (any more).
    """
    members = tuple(dict.fromkeys(expand(unit, order.subject)))
    found: dict[str, Issued] = {}
    by_kind = sorted((one for one in members if one.kind not in GROUPS), key=lambda one: one.kind.value)
    for kind, group in groupby(by_kind, key=lambda one: one.kind):
        for one in unit.revocations.covered(kind, [member.value for member in group], unit.now):
            if _fits(order.subject, one) and one.id not in known:
                found[one.id] = one
    if order.subject.kind in SINGLE and not found and order.subject.value not in known:
        found[order.subject.value] = _unseen(unit, order)
    return Effect(members=members, fallen=tuple(sorted(found.values(), key=lambda one: one.id)))


def make(
    unit: RevocationUnit, order: Order, expand: Expand, *, known: Collection[str], least: int
) -> tuple[Revocation, tuple[Fallen, ...]]:
    """Revoke: the row, what fell, and the ledger's entries. Raises what `effect` and `check_reason` do."""
    check_reason(order.subject, order.reason)
    found = effect(unit, order, expand, known)
    revocation = Revocation(
        id=unit.new_id("rv"),
        version=unit.revocations.advance(least),
        subject=order.subject,
        members=found.members,
        reason=order.reason,
        actor=order.actor,
        at=unit.now,
        until=max((one.expires for one in found.fallen), default=unit.now),
        blocks=order.subject.kind in BLOCKING,
        fell=found.counts,
        kept=not order.returned,
    )
    unit.revocations.put_revocation(revocation)
    # What an authority signed is not listed one by one: the authority itself leaves the bundle.
    listed = () if order.subject.kind is SubjectKind.AUTHORITY else found.fallen
    fallen = tuple(Fallen.of(one, revocation.id, unit.now) for one in listed)
    unit.revocations.note_fallen(fallen)
    if order.returned:
        _record(unit, RETURNED, revocation, order.actor, revocation.as_json())
        return revocation, fallen
    _record(unit, MADE, revocation, order.actor, revocation.as_json())
    _spread(unit, revocation, order.actor, fallen, [str(one) for one in found.members])
    return revocation, fallen


def restore(
    unit: RevocationUnit,
    revocations: Sequence[Revocation],
    *,
    by: str,
    reason: str,
    attester: Attester,
    known: Collection[str],
    least: int,
) -> tuple[int, list[tuple[Revocation, tuple[Fallen, ...]]]]:
    """Let their members get SVIDs and tokens again, new ones: what was issued until now stays revoked.

    Returns the new version and the revocations as they are now, each with what fell in the meantime.
    """
    changed, version, seen = [], unit.revocations.advance(least), set(known)
    for one in revocations:
        members = one.members
        order = Order(subject=one.subject, reason=reason, actor=by)
        late = effect(unit, order, lambda unit, subject, members=members: members, seen)  # type: ignore[misc]
        seen.update(each.id for each in late.fallen)
        now = replace(
            one,
            restored_at=unit.now,
            restored_by=by,
            until=max([one.until, *(each.expires for each in late.fallen)]),
        )
        now = replace(now, signature=attester.sign(SIGNED_AS, now.restoration()))
        fallen = tuple(Fallen.of(each, one.id, unit.now) for each in late.fallen)
        unit.revocations.put_revocation(now)
        unit.revocations.note_fallen(fallen)
        data: dict[str, Json] = {
            "id": one.id, "subject": str(one.subject), "reason": reason, "version": version,
            "by": by, "at": rfc3339(unit.now), "until": rfc3339(now.until),
        }  # fmt: skip
        _record(unit, RESTORED, one, by, data)
        _spread(unit, one, by, fallen, [])
        changed.append((now, fallen))
    return version, changed


def end(unit: RevocationUnit, revocations: Sequence[Revocation]) -> None:
    """Forget revocations that nothing rests on any more."""
    unit.revocations.remove_revocations([one.id for one in revocations])
    for one in (each for each in revocations if each.kept):
        _record(unit, ENDED, one, "system:trust", {"id": one.id, "subject": str(one.subject)})


def is_restored(revocation: Revocation, attester: Attester) -> bool:
    """Whether a row's restoration was signed here, and stands."""
    return revocation.restored_at is not None and attester.verify(
        SIGNED_AS, revocation.restoration(), revocation.signature
    )


def not_held(text: str, *, known: bool) -> NotFound | Conflict:
    """Why there is nothing to restore."""
    if known:
        return Conflict(
            "trust.revocation.final",
            f"`{text[:200]}` is restored already, or can never be: what fell stays fallen",
            next_step="workloads fetch new SVIDs by themselves",
        )
    return NotFound(
        "trust.revocation.unheld", f"nothing blocks `{text[:200]}`", next_step="`remit revocations` lists what does"
    )


def _fits(subject: Subject, issued: Issued) -> bool:
    """A serial is a certificate's, a `jti` is a token's."""
    if subject.kind not in SINGLE:
        return True
    return (issued.kind == "x509-svid") is (subject.kind is SubjectKind.SERIAL)


def _unseen(unit: RevocationUnit, order: Order) -> Issued:
    if not order.unseen:
        raise NotFound(
            "trust.revocation.unknown",
            f"nothing valid that was issued here is `{order.subject}`",
            next_step="it may have expired; to revoke it all the same, add `--unseen`",
        )
    kind = "x509-svid" if order.subject.kind is SubjectKind.SERIAL else "jwt-svid"
    return Issued(id=order.subject.value, kind=kind, spiffe_id="", issued=unit.now, expires=unit.now + _LONGEST)


def _spread(
    unit: RevocationUnit, revocation: Revocation, actor: str, fallen: Sequence[Fallen], members: Sequence[str]
) -> None:
    """Say in the ledger, in entries of bounded size, what it covers and what fell."""
    for chunk in _chunks(members, [one.as_json() for one in fallen]):
        data: dict[str, Json] = {"id": revocation.id, "at": rfc3339(unit.now), **chunk}
        _record(unit, SPREAD, revocation, actor, data)


def _chunks(members: Sequence[str], fallen: Sequence[list[Json]]) -> Iterator[dict[str, Json]]:
    size, chunk = 0, {"members": list[Json](), "fallen": list[Json]()}
    pieces: list[tuple[str, Json]] = [*(("members", one) for one in members), *(("fallen", one) for one in fallen)]
    for key, piece in pieces:
        weight = len(str(piece).encode()) + 8
        if size + weight > _CHUNK_BYTES:
            yield dict(chunk)
            size, chunk = 0, {"members": [], "fallen": []}
        chunk[key].append(piece)
        size += weight
    if size:
        yield dict(chunk)


def _record(unit: RevocationUnit, type: str, revocation: Revocation, actor: str, data: dict[str, Json]) -> None:
    # An identity's own history shows it.
    named = revocation.subject
    subject = named.value if named.kind is SubjectKind.IDENTITY else str(named)
    unit.record(type, actor=actor, subject=subject, data=data)
