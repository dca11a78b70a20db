"""A consumer of an identity, as evidence shows it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from remit.kernel.clock import rfc3339


class Evidence(StrEnum):
    """How it is known that somebody depends on an identity."""

    SCREAM = "scream"
    """It was refused in a scream test, and tried."""
    SESSION = "session"
    """It is connected now."""
    LEASE = "lease"
    LOG = "log"
    CONFIGURATION = "configuration"
    """A workflow, manifest, unit or state refers to the credential."""
    COPY = "copy"
    """The same secret value lies there, by its keyed fingerprint."""
    TASK = "task"
    """A task definition runs as the identity."""
    ROTATION = "rotation"
    """A rotation plan hands the credential to it."""
    WORKLOAD = "workload"
    """It runs as the identity, or deploys what does."""
    TRUST = "trust"
    """It may become the identity: assume, impersonate, member of, federated trust."""


class Breaks(StrEnum):
    """What a revocation now would mean for a consumer."""

    HARD = "hard"
    """It is seen in use within its rhythm."""
    LIKELY = "likely"
    UNKNOWN = "unknown"


ORDER: Final = (Breaks.HARD, Breaks.LIKELY, Breaks.UNKNOWN)
MOST: Final = 1000
"""Consumers of one answer; more are counted, and said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumer:
    """Somebody who depends on an identity, and how that is known."""

    id: str
    title: str
    relation: str
    evidence: str
    """In a sentence."""
    place: str
    kind: Evidence
    breaks: Breaks
    why: str
    """What speaks for `breaks`."""
    confidence: int
    """0–100: that it depends on the identity at all."""
    last_seen: datetime | None = None
    """When it was last seen to use it, or its reference was last seen."""
    read: datetime | None = None
    """When the source of this was last read: what came later is not known."""
    environment: str = ""
    tier: int | None = None
    owner: str = ""
    ask: str = ""
    """Whom to ask: its owner, who is proposed, or the owner of the identity."""

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id, "title": self.title, "relation": self.relation, "evidence": self.evidence,
            "place": self.place, "kind": self.kind.value, "breaks": self.breaks.value, "why": self.why,
            "confidence": self.confidence, "last_seen": rfc3339(self.last_seen) if self.last_seen else None,
            "read": rfc3339(self.read) if self.read else None, "environment": self.environment, "tier": self.tier,
            "owner": self.owner, "ask": self.ask,
        }  # fmt: skip


def answer(
    subject: Mapping[str, Any], consumers: Sequence[Consumer], unmeasured: Sequence[str], blind: Sequence[str]
) -> dict[str, Any]:
    """The whole answer, as every surface and every dry run shows it: what breaks surely comes first.

    `unmeasured` is what no log tells, `blind_spots` what makes the answer incomplete besides.
    """
    ranked = sorted(consumers, key=lambda each: (ORDER.index(each.breaks), -each.confidence, each.title, each.id))
    counts = Counter(each.breaks for each in ranked)
    spots = [*blind]
    if len(ranked) > MOST:
        spots.append(f"{len(ranked) - MOST} more consumers are known and not shown")
    return {
        **subject, "dependents": [each.as_json() for each in ranked[:MOST]], "total": len(ranked),
        "counts": {each.value: counts[each] for each in ORDER}, "unmeasured": list(unmeasured),
        "blind_spots": list(dict.fromkeys(spots)), "said": said(counts, unmeasured=bool(unmeasured)),
    }  # fmt: skip


def said(counts: Mapping[Breaks, int], *, unmeasured: bool) -> str:
    """The answer in one sentence."""
    hard, likely, unknown = (counts.get(each, 0) for each in ORDER)
    if not hard + likely + unknown:
        return "nothing is known to depend on it" + (", and no log would have told" if unmeasured else "")
    parts = [
        f"{number} {words}"
        for number, words in ((hard, "would break"), (likely, "likely would"), (unknown, "might"))
        if number
    ]
    return "revoked now, " + ", ".join(parts)
