"""What a leaver saw: secrets that somebody who is gone can still know, as a list to rotate.

Evidence, not proof: whoever wrote the lines of a file in which a secret lies has seen it, as has who added a secret to
the gateway or a target with its admin credential, and who answered for an identity whose secret lies open.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from remit.inventory.records import CredentialRecord, OwnerProposal


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """One secret that the person can know."""

    what: str
    """A credential's fingerprint, `secret:NAME` or `target:NAME`."""
    title: str
    identity: str
    why: str
    place: str = ""
    next_step: str = ""


def seen_in_files(
    proposals: Iterable[OwnerProposal],
    ids: Mapping[str, str],
    credentials: Iterable[CredentialRecord],
) -> tuple[Exposure, ...]:
    """Exposed credentials of identities whose declaring lines the person wrote or reviewed.

    `ids` gives the identity of each proposal's name. Pure.
    """
    wrote: dict[str, OwnerProposal] = {}
    for proposal in proposals:
        if (identity := ids.get(proposal.identity)) is not None:
            wrote.setdefault(identity, proposal)
    return tuple(
        Exposure(
            what=each.fingerprint,
            title=each.title,
            identity=each.identity,
            why=f"{wrote[each.identity].method}: {wrote[each.identity].evidence}",
            place=wrote[each.identity].place,
            next_step=rotation_step(each),
        )
        for each in credentials
        if each.identity in wrote and each.exposed and each.present
    )


def answered_for(identities: Sequence[str], credentials: Iterable[CredentialRecord]) -> tuple[Exposure, ...]:
    """Credentials of identities that the person answered for, and whose secret lies outside a manager. Pure."""
    theirs = set(identities)
    return tuple(
        Exposure(
            what=each.fingerprint,
            title=each.title,
            identity=each.identity,
            why="answered for it",
            next_step=rotation_step(each),
        )
        for each in credentials
        if each.identity in theirs and each.exposed and each.present
    )


_HANDLED = {
    "access.secret.added": "added it to the gateway",
    "access.secret.rotated": "gave it its value",
    "access.target.added": "added the target with its admin credential",
}


def handled(events: Iterable[Mapping[str, str]]) -> tuple[Exposure, ...]:
    """Secrets that the person typed in, from ledger entries (`type`, `subject`). Pure."""
    found: dict[str, Exposure] = {}
    for event in events:
        if (why := _HANDLED.get(event["type"])) is None:
            continue
        subject = event["subject"]
        name = subject.partition(":")[2] or subject
        step = (
            f"replace it: `remit secret rotate {name}`"
            if event["type"].startswith("access.secret")
            else f"change the admin credential of `{name}`, then `remit target add` it again"
        )
        found[subject] = Exposure(what=subject, title=name, identity="", why=why, next_step=step)
    return tuple(found.values())


def rotation_step(credential: CredentialRecord) -> str:
    """What to do about a credential that somebody knows who should not."""
    return f"`remit rotate` where a plan has it, else `remit leak drive {credential.fingerprint[:20]}`"
