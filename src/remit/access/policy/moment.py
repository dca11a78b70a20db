"""The policies of a decision's moment: found by the digest in its record, or by its time in the ledger.

A version counts if its text is what was signed when it was put in force: what somebody wrote into the database since
explains nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from remit.access.policy.compile import CompiledPolicies, compile_policies
from remit.access.policy.lifecycle import KIND, PolicyVersion, text_digest
from remit.access.policy.source import read_policies
from remit.kernel.clock import parse_rfc3339
from remit.kernel.errors import NotFound
from remit.kernel.unit import Attester
from remit.trust.federation.bounds import bounds_of, bounds_text
from remit.trust.spiffe import TrustDomain

_MANY = 1000
EMPTY = "sha256:" + hashlib.sha256(b"").hexdigest()
"""The digest of no policies: what is in force before any version is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Policies, and how they were found."""

    policies: CompiledPolicies
    digest: str
    """Of the policies as a decision's record has it."""
    version: str = ""
    """`pv_…`; empty where none was in force."""
    found_by: str = "digest"
    """`digest`, exact; or `time`, for a record that is older than digests."""


def policies_of(
    versions: Iterable[PolicyVersion],
    activations: Sequence[tuple[datetime, str]],
    *,
    digest: str,
    at: datetime,
    attester: Attester,
) -> Moment:
    """The policies that decided. `activations` are moment and version of each, from the ledger, newest first.

    Raises `NotFound` (`access.policy.gone`) where no version that verifies has this digest.
    """
    if digest == EMPTY:
        return Moment(policies=compile_policies(""), digest=EMPTY)
    known = {each.id: each for each in versions if _is_genuine(each, attester)}
    order = [name for moment, name in activations if moment <= at] + list(known)
    for name in dict.fromkeys(order):
        version = known.get(name)
        if version is not None and (not digest or digest_of(version.text) == digest):
            return Moment(
                policies=compile_policies(version.text), digest=digest_of(version.text), version=version.id,
                found_by="digest" if digest else "time",
            )  # fmt: skip
    raise NotFound(
        "access.policy.gone",
        f"no version that was put in force has the digest `{digest[:19]}…`" if digest else "no version was in force",
        next_step="`remit policy versions` lists what is known; `--policies FILE` takes a text of your own",
    )


def policies_at(unit: Any, digest: str, time: str, attester: Attester) -> Moment:
    """`policies_of` over a store: the versions that it keeps, and the ledger's activations."""
    entries = unit.ledger.latest(_MANY, type_prefix="access.policy.activated")
    activations = [(each.time, each.subject) for each in entries]
    versions = unit.access.policy_versions(limit=_MANY)
    return policies_of(versions, activations, digest=digest, at=parse_rfc3339(time), attester=attester)


def bounds_at(unit: Any, digest: str, time: str) -> CompiledPolicies:
    """The bounds that held partners when a decision was made: those of this digest, as the ledger has the relations.

    Raises `NotFound` (`access.policy.gone`) where no relations that were in force around then make them.
    """
    at = parse_rfc3339(time)
    for text in _bounds_around(unit.ledger.latest(_MANY, type_prefix="trust.federation."), at):
        if digest_of(text) == digest:
            return compile_policies(text)
    raise NotFound(
        "access.policy.gone",
        f"no relations with partners that were in force then make the digest `{digest[:19]}…`",
        next_step="`remit ledger ls --type trust.federation` tells which there were",
    )


def _bounds_around(entries: Sequence[Any], at: datetime) -> Iterable[str]:
    """The texts of the bounds as they were at a moment, then before it, then behind it: `entries` newest first."""
    states: list[tuple[datetime, dict[str, Mapping[str, Any]]]] = [(datetime.min.replace(tzinfo=at.tzinfo), {})]
    for entry in reversed(entries):
        held = {name: one for name, one in states[-1][1].items() if parse_rfc3339(one["until"]) > entry.time}
        if entry.type == "trust.federation.added":
            held[entry.data["trust_domain"]] = entry.data
        elif entry.type in ("trust.federation.removed", "trust.federation.ended"):
            held.pop(entry.data["trust_domain"], None)
        else:
            continue
        states.append((entry.time, held))
    past = [held for moment, held in states if moment <= at]
    for held in [*reversed(past), *(held for moment, held in states if moment > at)]:
        standing = {name: one for name, one in held.items() if parse_rfc3339(one["until"]) > at}
        yield from dict.fromkeys(_bounds_text(each.values()) for each in (standing, held))


def _bounds_text(relations: Iterable[Mapping[str, Any]]) -> str:
    return bounds_text(_Held(each) for each in relations)


class _Held:
    """A relation as the ledger tells it: what its bounds are made of."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.trust_domain = TrustDomain(data["trust_domain"])
        self.policy = bounds_of(
            data["id"], self.trust_domain, ids=data["ids"], resources=data["resources"],
            until=parse_rfc3339(data["until"]),
        )  # fmt: skip


@lru_cache(maxsize=256)
def digest_of(text: str) -> str:
    """The digest of a text's policies, as `CompiledPolicies` has it: comments around them do not count."""
    joined = "\n".join(source.text for source in read_policies(text))
    return "sha256:" + hashlib.sha256(joined.encode()).hexdigest()


def _is_genuine(version: PolicyVersion, attester: Attester) -> bool:
    if version.activated is None or version.digest != text_digest(version.text):
        return False
    return attester.verify(KIND, version.content(), version.signature)
