"""The life of a leaked credential, as a table of legal steps, and what is kept of it. One record per fingerprint.

    found ─► bound ─► told ─► mapped ─► ending ─► ended ─► refused ─► closed ─► reopened ─► bound
                               │  │       │         │         ▲
                               │  │       └──► waiting-for-owner
                               │  └──────────► waiting-for-owner ──► ending
                               └──────────────────────────────┘  (it was refused already)

INVARIANT: nothing of the credential is ended that was not admitted a moment before: who plants a login's name in a file
must not be able to have the login taken away. And nothing is contained but by a refusal that its own system spoke.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from remit.kernel.canonical import Json
from remit.kernel.clock import rfc3339


class Stage(enum.Enum):
    """Where a leak stands."""

    FOUND = "found"
    BOUND = "bound"
    """Whose it is was looked up: `identity` is empty where nobody can tell."""
    TOLD = "told"
    MAPPED = "mapped"
    """Who would notice is known, and what of that is not measured."""
    ENDING = "ending"
    """The intent to end it is committed; whether it has ended is not known."""
    ENDED = "ended"
    WAITING = "waiting-for-owner"
    REFUSED = "refused"
    CLOSED = "closed"
    REOPENED = "reopened"


STEPS: Final[Mapping[Stage, frozenset[Stage]]] = {
    Stage.FOUND: frozenset({Stage.BOUND, Stage.CLOSED}),
    Stage.BOUND: frozenset({Stage.TOLD, Stage.CLOSED}),
    Stage.TOLD: frozenset({Stage.MAPPED, Stage.CLOSED}),
    Stage.MAPPED: frozenset({Stage.ENDING, Stage.WAITING, Stage.REFUSED, Stage.CLOSED}),
    Stage.ENDING: frozenset({Stage.ENDED, Stage.WAITING}),
    Stage.ENDED: frozenset({Stage.REFUSED, Stage.WAITING, Stage.CLOSED}),
    Stage.WAITING: frozenset({Stage.ENDING, Stage.REFUSED, Stage.CLOSED}),
    Stage.REFUSED: frozenset({Stage.CLOSED}),
    Stage.CLOSED: frozenset({Stage.REOPENED}),
    Stage.REOPENED: frozenset({Stage.BOUND, Stage.CLOSED}),
}
OPEN: Final = frozenset(Stage) - {Stage.CLOSED}
MOST_KEPT: Final = 50
"""Dependants, and people told, that a record keeps; how many there were is counted."""
_WORDS: Final = 500


class Way(enum.Enum):
    """How it is ended."""

    ROTATION = "rotation"
    """By a plan: a new one takes its place without an outage."""
    BROKER = "broker"
    """By the registered target on which it counts: the login ends."""
    INSTRUCTION = "instruction"
    """By its owner, at the issuer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """What is about to be done, and to what."""

    way: Way
    target: str = ""
    principal: str = ""
    plan: str = ""

    def as_json(self) -> dict[str, Json]:
        return {"way": self.way.value, "target": self.target, "principal": self.principal, "plan": self.plan}


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """One leaked credential. `revision` grows with every write: a write under an older one changes nothing."""

    fingerprint: str
    found: datetime
    """When a source first showed it."""
    moved: datetime
    stage: Stage = Stage.FOUND
    revision: int = 0
    title: str = ""
    rule: str = ""
    kind: str = ""
    provider: str = ""
    severity: str = "medium"
    place: str = ""
    places: int = 0
    identity: str = ""
    identity_title: str = ""
    owner: str = ""
    """Who answers for it; empty where nobody does."""
    told: tuple[Mapping[str, Json], ...] = ()
    dependents: tuple[Mapping[str, Json], ...] = ()
    dependents_count: int = 0
    unmeasured: tuple[str, ...] = ()
    intent: Intent | None = None
    instruction: str = ""
    admitted: datetime | None = None
    """When its own system last admitted it."""
    proof: Mapping[str, Json] = field(default_factory=dict)
    trouble: str = ""
    opened: datetime | None = None
    opened_by: str = ""
    refused: datetime | None = None
    """When it was last refused."""
    closed: datetime | None = None
    closed_by: str = ""
    reason: str = ""
    """Why a person closed it without a refusal."""
    reopened: int = 0

    @property
    def contained_in(self) -> timedelta | None:
        """From the finding to the last refusal; `None` while nothing proved it, and where a person closed it."""
        if self.refused is None or self.stage not in (Stage.REFUSED, Stage.CLOSED):
            return None
        return max(timedelta(), self.refused - self.found)

    def _step(self, to: Stage, now: datetime, **changes: Any) -> Leak:
        """The same leak in stage `to`; an illegal step is a bug."""
        assert to in STEPS[self.stage], f"{self.stage} → {to}"
        return replace(self, stage=to, moved=now, **changes)

    def bind(self, now: datetime, *, identity: str, title: str, owner: str) -> Leak:
        """Whose it is; `identity` empty where nobody can tell."""
        return self._step(Stage.BOUND, now, identity=identity, identity_title=title[:200], owner=owner)

    def tell(self, now: datetime, told: Sequence[Mapping[str, Json]]) -> Leak:
        """Who heard of it, by which channels."""
        return self._step(Stage.TOLD, now, told=(*self.told, *told)[-MOST_KEPT:])

    def map(self, now: datetime, *, dependents: Sequence[Mapping[str, Json]], unmeasured: Sequence[str]) -> Leak:
        """Who would notice its end, and what of that nobody measured."""
        kept = tuple(dependents[:MOST_KEPT])
        return self._step(
            Stage.MAPPED, now, dependents=kept, dependents_count=len(dependents), unmeasured=tuple(unmeasured)
        )

    def seen_live(self, now: datetime) -> Leak:
        """Its own system admits it: the stage stays."""
        return replace(self, admitted=now, proof={})

    def begin(self, now: datetime, intent: Intent) -> Leak:
        """Commit to end it. Only what was admitted may be ended."""
        assert self.admitted is not None, "what was not admitted is not ended"
        assert intent.way is not Way.INSTRUCTION, "an instruction is somebody else's to carry out"
        return self._step(Stage.ENDING, now, intent=intent, trouble="", instruction="")

    def end(self, now: datetime) -> Leak:
        """What was intended was done; nothing is proved yet."""
        return self._step(Stage.ENDED, now)

    def wait(self, now: datetime, *, instruction: str, trouble: str) -> Leak:
        """Somebody else has to act; `trouble` says why we cannot."""
        if self.stage is Stage.WAITING:
            return replace(self, instruction=instruction[:1000], trouble=trouble[:_WORDS])
        return self._step(Stage.WAITING, now, instruction=instruction[:1000], trouble=trouble[:_WORDS])

    def refuse(self, now: datetime, *, refusal: str, control: str) -> Leak:
        """Its own system refuses it, while the control is admitted."""
        assert refusal, "a refusal has words"
        proof: dict[str, Json] = {"refusal": refusal[:_WORDS], "control": control[:_WORDS], "at": rfc3339(now)}
        return self._step(Stage.REFUSED, now, refused=now, proof=proof, trouble="")

    def close(self, now: datetime, by: str) -> Leak:
        """It is contained."""
        assert self.stage is Stage.REFUSED and self.proof.get("refusal"), "contained is who was refused"
        return self._step(Stage.CLOSED, now, closed=now, closed_by=by, trouble="", instruction="")

    def dismiss(self, now: datetime, *, by: str, reason: str) -> Leak:
        """A person's word instead of a proof: it is never shown as contained."""
        assert reason, "a word without a reason is none"
        return self._step(
            Stage.CLOSED, now, closed=now, closed_by=by, reason=reason[:_WORDS], proof={}, refused=None, trouble="",
            instruction="",
        )  # fmt: skip

    def reopen(self, now: datetime, why: str) -> Leak:
        """It is live again: the clock runs from the day on which it was found."""
        return self._step(
            Stage.REOPENED, now, reopened=self.reopened + 1, admitted=now, proof={}, refused=None, closed=None,
            closed_by="", reason="", intent=None, trouble=why[:_WORDS],
        )  # fmt: skip

    def as_json(self) -> dict[str, Json]:
        """Everything that is told and kept of it: it holds no secret."""
        span = self.contained_in
        return {
            "fingerprint": self.fingerprint,
            "stage": self.stage.value,
            "revision": self.revision,
            "found": rfc3339(self.found),
            "moved": rfc3339(self.moved),
            "title": self.title,
            "rule": self.rule,
            "kind": self.kind,
            "provider": self.provider,
            "severity": self.severity,
            "place": self.place,
            "places": self.places,
            "identity": self.identity,
            "identity_title": self.identity_title,
            "owner": self.owner,
            "told": [dict(each) for each in self.told],
            "dependents": [dict(each) for each in self.dependents],
            "dependents_count": self.dependents_count,
            "unmeasured": list(self.unmeasured),
            "intent": self.intent.as_json() if self.intent else None,
            "instruction": self.instruction,
            "admitted": _said(self.admitted),
            "proof": dict(self.proof),
            "trouble": self.trouble,
            "opened": _said(self.opened),
            "opened_by": self.opened_by,
            "refused": _said(self.refused),
            "closed": _said(self.closed),
            "closed_by": self.closed_by,
            "reason": self.reason,
            "reopened": self.reopened,
            "contained_in_ms": None if span is None else round(span.total_seconds() * 1000),
        }


def leak_of(content: Mapping[str, Any]) -> Leak:
    """Read what `as_json` wrote."""
    intent = content["intent"]
    return Leak(
        fingerprint=content["fingerprint"],
        stage=Stage(content["stage"]),
        revision=content["revision"],
        found=datetime.fromisoformat(content["found"]),
        moved=datetime.fromisoformat(content["moved"]),
        intent=None
        if intent is None
        else Intent(
            way=Way(intent["way"]), target=intent["target"], principal=intent["principal"], plan=intent["plan"]
        ),
        told=tuple(content["told"]),
        dependents=tuple(content["dependents"]),
        unmeasured=tuple(content["unmeasured"]),
        proof=content["proof"],
        admitted=_moment(content["admitted"]),
        opened=_moment(content["opened"]),
        refused=_moment(content["refused"]),
        closed=_moment(content["closed"]),
        **{key: content[key] for key in _PLAIN},
    )


_PLAIN: Final = (
    "title", "rule", "kind", "provider", "severity", "place", "places", "identity", "identity_title", "owner",
    "dependents_count", "instruction", "trouble", "opened_by", "closed_by", "reason", "reopened",
)  # fmt: skip


def _said(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
